"""Pipes, devices and dead links among weights and cached features: an error that names them, or the features anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from anomaly_features import BackboneError, Backbones, FeatureCache
from anomaly_features.weights import verify
from special_files import SPECIAL, in_time

pytestmark = [
    pytest.mark.reliability("input"),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"),
]
NAME = "resnet18.tv_in1k"


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_are_no_file(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}{suffix}"
    SPECIAL[kind](path)
    pipes = [path] if kind == "pipe" else []
    with pytest.raises(BackboneError, match=r"the weights file .* cannot be read"):  # and no other source, in silence
        in_time(lambda: Backbones(tmp_path).load(NAME), *pipes)
    (verdict,) = in_time(lambda: verify(tmp_path), *pipes)
    assert "cannot be read" in verdict.problem


@pytest.mark.parametrize("kind", SPECIAL)
def test_cached_features_that_are_no_file_are_computed_anew(kind: str, tmp_path: Path) -> None:
    images, computed = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), []

    def compute(batch: torch.Tensor) -> list[torch.Tensor]:
        computed.append(len(batch))
        return [batch * 2]

    expected = FeatureCache(2**20, tmp_path)(images, compute)
    first = min(tmp_path.glob("*.safetensors"))
    first.unlink()
    SPECIAL[kind](first)
    cache = in_time(lambda: FeatureCache(2**20, tmp_path))
    if kind == "folder":
        with pytest.warns(UserWarning, match="Features are no longer kept"):
            again = cache(images, compute)
    else:
        again = in_time(lambda: cache(images, compute), *([first] if kind == "pipe" else []))
        assert first.is_file()
        FeatureCache(2**20, tmp_path)(images, compute)
    assert torch.equal(again[0], expected[0]) and computed == [2, 1]
