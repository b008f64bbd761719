"""Where weights are looked for, what is refused, and the frozen feature extractor."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

from anomaly_core import BackboneSpec, ConfigError, ModelContext, registry
from anomaly_features import BackboneError, Backbones, ExtractorOptions, FeatureCache, FeatureExtractor, full_name


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub refuses at once, and its cache is empty."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a backbone that an importable module carries, by position."""
    path = tmp_path / "carried.pth"
    (tmp_path / "carries_resnet18.py").write_text(f"def path():\n    return {str(path)!r}\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.add("resnet18.tv_in1k", BackboneSpec(target="carries_resnet18:path", by_position=True))
    yield path
    registry.remove("resnet18.tv_in1k", "backbone")
    sys.modules.pop("carries_resnet18", None)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model("resnet18.tv_in1k", pretrained=False).state_dict()


def test_well_known_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    # the published file lacks the counters of batches
    published = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(published, tmp_path / "resnet18-f37072fd.pth")
    loaded = Backbones(tmp_path).load("resnet18.tv_in1k")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in published.items())


def test_bare_name_is_other_weights(tmp_path: Path, offline: None, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "resnet18-f37072fd.pth")
    with pytest.raises(BackboneError, match=r"resnet18\.a1_in1k\.pth"):
        Backbones(tmp_path).load("resnet18")


@pytest.mark.parametrize("file", ["resnet18.tv_in1k.safetensors", "resnet18.tv_in1k.pth"])
def test_timm_names(tmp_path: Path, state: dict[str, Tensor], file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / file
    save_file(state, path) if path.suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    monkeypatch.setenv("ANOMALY_BACKBONES", str(tmp_path))
    loaded = Backbones().load("resnet18.tv_in1k")
    assert torch.equal(loaded["layer3.0.conv1.weight"], state["layer3.0.conv1.weight"])


def test_folder_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANOMALY_BACKBONES", raising=False)
    assert Backbones().folder == Path("backbones")
    assert Backbones(tmp_path).folder == tmp_path


def test_distribution_after_folder(tmp_path: Path, carried: Path, state: dict[str, Tensor]) -> None:
    renamed = {f"tensor{i}": value for i, value in enumerate(state.values())}
    torch.save(renamed, carried)
    loaded = Backbones(tmp_path / "none").load("resnet18.tv_in1k")
    assert list(loaded) == list(state)
    assert torch.equal(loaded["conv1.weight"], state["conv1.weight"])

    other = {**state, "conv1.weight": torch.zeros_like(state["conv1.weight"])}
    torch.save(other, tmp_path / "resnet18-f37072fd.pth")
    assert not Backbones(tmp_path).load("resnet18.tv_in1k")["conv1.weight"].any(), "the folder comes first"


def test_a_tag_of_its_own_and_a_reader_of_its_own(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution carries weights that are not timm's, in a file that is neither .pth nor .safetensors."""
    code = f"import torch\ndef path():\n    return {str(tmp_path / 'tuned.zip')!r}\nread = torch.load\n"
    (tmp_path / "carries_tuned.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.save(state, tmp_path / "tuned.zip")
    with pytest.raises(ConfigError, match="has no pretrained model"):
        full_name("resnet18.tuned_here")
    registry.add("resnet18.tuned_here", BackboneSpec(target="carries_tuned:path", reader="carries_tuned:read"))
    try:
        extractor = FeatureExtractor("resnet18.tuned_here", ["layer1"], Backbones(tmp_path / "none"))
        assert torch.equal(extractor.network.conv1.weight, state["conv1.weight"])
        assert full_name("resnet18.tuned_here") == "resnet18.tuned_here"
        assert full_name("resnet18") == "resnet18.a1_in1k"
    finally:
        registry.remove("resnet18.tuned_here", "backbone")
    with pytest.raises(BackboneError, match="No pretrained weights exist"):  # never random ones
        Backbones(tmp_path / "none").load("resnet18.tuned_here")


def test_error_names_every_place(tmp_path: Path, offline: None) -> None:
    with pytest.raises(BackboneError) as caught:
        Backbones(tmp_path / "weights").load("wide_resnet50_2.tv_in1k")
    message = str(caught.value)
    for part in ("wide_resnet50_2-95faca4d.pth", "wide_resnet50_2.tv_in1k.safetensors", str(tmp_path / "weights")):
        assert part in message
    for part in ("installed distribution", "hub", "model.backbones", "ANOMALY_BACKBONES", "internet"):
        assert part in message


def test_error_names_the_distribution(tmp_path: Path, offline: None) -> None:
    registry.block("anomaly-backbones")
    with pytest.raises(BackboneError, match="anomaly-backbones"):
        Backbones(tmp_path).load("tf_efficientnet_lite0.in1k")


class Malicious:
    """A pickle that would write a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [False, True], ids=["torch", "pickle"])
def test_a_malicious_file_is_refused(tmp_path: Path, plain: bool) -> None:
    path, trace = tmp_path / "resnet18-f37072fd.pth", tmp_path / "executed"
    if plain:
        path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    else:
        torch.save({"conv1.weight": Malicious(trace)}, path)
    with pytest.raises(BackboneError, match=r"resnet18-f37072fd\.pth.*cannot be read"):
        Backbones(tmp_path).load("resnet18.tv_in1k")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {key: value for key, value in state.items() if key != "conv1.weight"}, "'conv1.weight' is missing"),
        (lambda state: {**state, "conv1.weight": torch.zeros(64, 1, 7, 7)}, r"has shape \(64, 1, 7, 7\)"),
        (lambda state: [1, 2], "no state dict"),
    ],
    ids=["missing", "shape", "no dict"],
)
def test_a_file_that_does_not_fit_is_no_reason_to_look_elsewhere(
    tmp_path: Path, state: dict[str, Tensor], change, message
) -> None:
    torch.save(change(state), tmp_path / "resnet18-f37072fd.pth")
    with pytest.raises(BackboneError, match=message):
        Backbones(tmp_path).load("resnet18.tv_in1k")


def test_a_headless_file_suffices(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, tmp_path / "resnet18.tv_in1k.pth")
    extractor = FeatureExtractor("resnet18.tv_in1k", ["layer2"], Backbones(tmp_path))
    assert torch.equal(extractor.network.layer2[0].conv1.weight, state["layer2.0.conv1.weight"])


def test_extractor(tmp_path: Path, state: dict[str, Tensor], caplog: pytest.LogCaptureFixture) -> None:
    torch.save(state, tmp_path / "resnet18-f37072fd.pth")
    with caplog.at_level(logging.WARNING):
        extractor = FeatureExtractor("resnet18.tv_in1k", ["layer3", 1], Backbones(tmp_path))
    assert not caplog.records
    assert (extractor.channels, extractor.strides) == ([256, 64], [16, 4])
    assert extractor.mean == (0.485, 0.456, 0.406)
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not any(module.training for module in extractor.train().modules())

    images = torch.rand(2, 3, 64, 96)
    deep, shallow = extractor(images)
    assert (deep.shape, shallow.shape) == ((2, 256, 4, 6), (2, 64, 16, 24))
    network = timm.create_model("resnet18.tv_in1k", pretrained=False).eval()
    network.load_state_dict(state)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (extractor.mean, extractor.std))
    with torch.no_grad():
        expected = network.layer1(network.maxpool(network.act1(network.bn1(network.conv1((images - mean) / std)))))
    assert torch.allclose(shallow, expected, atol=1e-6)


def test_a_saved_state_follows_a_build_without_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "resnet18-f37072fd.pth")
    first = FeatureExtractor("resnet18.tv_in1k", (1, 2, 3), Backbones(tmp_path))
    second = FeatureExtractor("resnet18.tv_in1k", (1, 2, 3))
    second.load_state_dict(first.state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(first(images), second(images), strict=True))


def test_cached_features_of_other_layers_are_others(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "resnet18-f37072fd.pth")
    images = torch.rand(2, 3, 64, 64)
    for layers in ((1, 2, 3), (1, 3), (3, 1), ("layer2", "layer3")):  # the same weights, for all of them end at layer3
        extractor = FeatureExtractor("resnet18.tv_in1k", layers, Backbones(tmp_path))
        plain = extractor(images)
        extractor.cache = FeatureCache(2**24, tmp_path / "cache" / extractor.identity())
        for _ in range(2):
            kept = extractor(images)
            assert [level.shape for level in kept] == [level.shape for level in plain]
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(kept, plain, strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 4


@pytest.mark.parametrize("layer", ["layer9", 7, -1])
def test_unknown_layer(layer: int | str) -> None:
    with pytest.raises(ConfigError, match=r"1 = layer1, 2 = layer2"):
        FeatureExtractor("resnet18.tv_in1k", [layer])


@pytest.mark.parametrize("name", ["resnet18.tv_in2k", "resnet_18", "wide_resnet50.tv_in1k"])
def test_unknown_backbone(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean .*resnet"):
        FeatureExtractor(name, [1])


def test_names_with_and_without_tag() -> None:
    assert full_name("tf_efficientnet_lite0") == full_name("tf_efficientnet_lite0.in1k") == "tf_efficientnet_lite0.in1k"
    assert full_name("resnet18") != "resnet18.tv_in1k"


@pytest.mark.reliability("security")
@pytest.mark.parametrize(
    "name", ["hf-hub:a/b", "hf_hub:a/b", "local-dir:/tmp", "http://127.0.0.1:9/x", "/etc/passwd", "../x", "\\\\host\\x", "a\0b"]
)
def test_a_strangers_backbone_is_never_fetched_or_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("it asks the network")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr("socket.getaddrinfo", refused)
    with pytest.raises(ConfigError, match=r"timm .* has no pretrained model"):
        FeatureExtractor(name, [1])


def test_weights_are_looked_for_when_a_run_is_fitted_and_not_when_it_is_used_again(tmp_path: Path) -> None:
    options = ExtractorOptions(backbones=str(tmp_path))
    places = options.weights(ModelContext(pretrained=True))
    assert isinstance(places, Backbones)
    assert places.folder == tmp_path
    assert options.weights(ModelContext(pretrained=False)) is None
