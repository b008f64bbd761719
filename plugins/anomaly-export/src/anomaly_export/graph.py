"""The exported graph: a modeler's own predict_step, or a frozen network, with one input tensor and output tensors."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from anomaly_core import BaseModeler, MissingLibrary
from anomaly_features import FrozenNetwork, in_one_thread


class DetectorGraph(nn.Module):
    """uint8 (B, H, W, 3) RGB images to raw scores (B,), and to maps (B, 1, H, W) and reconstructions if the method has any."""

    def __init__(self, modeler: BaseModeler, placing: nn.Module | None = None) -> None:
        super().__init__()
        self.modeler = modeler
        self.placing = placing  # from images of any size to those of the modeler's

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.placing is not None:
            images = self.placing(images)
        # (B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1], as InputSpec.image does
        prediction = self.modeler.predict_step(images.permute(0, 3, 1, 2).float() / 255)
        parts = (prediction.scores, prediction.maps, prediction.reconstruction)
        return tuple(part.float() for part in parts if part is not None)

    def outputs(self) -> list[str]:
        """The names of the outputs of :meth:`forward`."""
        with torch.no_grad():
            size = self.modeler.input_spec.output_size
            prediction = self.modeler.predict_step(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
        return [name for name, part in vars(prediction).items() if part is not None]

    def example(self, count: int = 2) -> Tensor:
        """Some images of the right size, or where any is right, of another."""
        height, width = self.modeler.input_spec.output_size
        shape = (count, height + 8, width + 16, 3) if self.placing else (count, height, width, 3)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class NetworkGraph(nn.Module):
    """float32 (B, 3, H, W) images in [0, 1] to a frozen network's feature maps; the engine and the cache are left out."""

    def __init__(self, network: FrozenNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.features(images))


def to_onnx(
    graph: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    outputs: Sequence[str],
    inputs: Sequence[str] = ("images",),
    *,
    any_size: bool = False,
) -> bytes:
    """The graph as an ONNX model for any number of images, with ``any_size`` (B, H, W, 3) of any height and width.

    Uses PyTorch's tracing exporter, which is an order of magnitude faster here than the one based on torch.export. It was
    checked with every method, and it raises an error for what it cannot export.

    Raises:
        MissingLibrary: the package ``onnx``, which that exporter imports, is not installed.
    """
    if find_spec("onnx") is None:
        raise MissingLibrary('writing ONNX, and OpenVINO by way of it, needs onnx: pip install "anomaly-export[train]"')
    buffer = io.BytesIO()
    axes = {name: {0: "batch"} for name in (*inputs, *outputs)}
    if any_size:
        axes[inputs[0]] |= {1: "height", 2: "width"}
    with _quiet():
        torch.onnx.export(
            graph,
            example if isinstance(example, tuple) else (example,),
            buffer,  # type: ignore[arg-type]  # what the tracing exporter takes, and the annotation of the other one does not
            dynamo=False,
            opset_version=18,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    return buffer.getvalue()


def to_torchscript(graph: nn.Module, example: Tensor) -> torch.jit.ScriptModule:
    """The graph traced and frozen, for any number of images."""
    with _quiet():
        traced = torch.jit.trace(graph, (example,), check_trace=False)
        frozen: torch.jit.ScriptModule = torch.jit.freeze(traced.eval())
    return frozen


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide tracing's warnings about Python numbers that become constants: sizes are constant, and the result is compared."""
    with warnings.catch_warnings(), torch.no_grad(), in_one_thread():
        warnings.simplefilter("ignore")
        yield
