"""The engines for ``model.engine``, which compile frozen networks. All run on the CPU, and all but one in float32.

``quantised`` has the one that computes in INT8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anomaly_export.graph import NetworkGraph, to_onnx, to_torchscript
from anomaly_export.metadata import Precision
from anomaly_export.quiet import import_openvino
from anomaly_export.sessions import at_once, onnx_session, openvino_compiled, openvino_has_bfloat16
from anomaly_features import Compute, FrozenNetwork, in_one_thread


def onnx(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """The network in ONNX Runtime."""
    model, names = network_as_onnx(network, size)
    session = onnx_session(model, torch.get_num_threads())

    def compute(images: Tensor) -> list[Tensor]:
        maps = session.run(names, {"images": images.detach().float().contiguous().numpy()})
        return [torch.from_numpy(part) for part in maps]

    return _in_parts(compute)


def openvino(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """The network in OpenVINO."""
    return in_openvino(_read(network, size), "f32")


def openvino_bf16(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """The network in OpenVINO, with matrix products in bfloat16; float32 images in, float32 features out."""
    return in_openvino(_read(network, size), "bf16" if openvino_has_bfloat16() else "f32")


def _read(network: FrozenNetwork, size: tuple[int, int]) -> Any:
    return import_openvino().Core().read_model(network_as_onnx(network, size)[0], b"")


def in_openvino(model: Any, precision: Precision) -> Compute:
    """An OpenVINO model from images, float32 or uint8 as it takes them, to feature maps, compiled."""
    compiled, count = openvino_compiled(model, torch.get_num_threads(), precision), len(model.outputs)

    def compute(images: Tensor) -> list[Tensor]:
        pixels = (images.detach() if images.dtype == torch.uint8 else images.detach().float()).contiguous().numpy()
        # Nothing is copied: each call has its own request, which owns the memory of the returned arrays.
        results = compiled.create_infer_request().infer({0: pixels}, share_inputs=True, share_outputs=True)
        return [torch.from_numpy(results[number]) for number in range(count)]

    return _in_parts(compute)


def _in_parts(compute: Compute) -> Compute:
    most = at_once(torch.get_num_threads())

    def in_parts(images: Tensor) -> list[Tensor]:
        parts = [compute(part) for part in images.split(most)]
        return parts[0] if len(parts) == 1 else [torch.cat(level) for level in zip(*parts, strict=True)]

    return in_parts


def torchscript(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """The network traced, with folded batch norms."""
    graph = to_torchscript(NetworkGraph(network).eval(), _example(size))

    def compute(images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return list(graph(images))

    return compute


def network_as_onnx(network: FrozenNetwork, size: tuple[int, int]) -> tuple[bytes, list[str]]:
    """A network for images of a size (H, W) as an ONNX model, and the names of its outputs."""
    example = _example(size)
    with torch.no_grad(), in_one_thread():
        names = [f"features_{i}" for i in range(len(network.features(example[:1])))]
    return to_onnx(NetworkGraph(network).eval(), example, names), names


def _example(size: tuple[int, int]) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
