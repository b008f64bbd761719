"""The weights that the presets of installed methods need, and the file that a distribution carries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from anomaly_features import Backbones
from anomaly_features.commands import backbones
from anomaly_features.weights import needed, verify_carried

NAME = "resnet18.tv_in1k"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No internet, an empty hub cache, an empty backbone folder."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ANOMALY_BACKBONES", str(tmp_path / "weights"))


def test_needed_by_the_presets(no_hub: None) -> None:
    rows = {need.name: need for need in needed(Backbones())}
    assert rows["tf_efficientnet_lite0.in1k"].file.place == "anomaly-backbones"
    assert {"patchcore/edge", "padim/edge", "stfpm/edge"} <= set(rows["tf_efficientnet_lite0.in1k"].presets)
    assert rows["resnet18.tv_in1k"].file is None
    assert "stfpm/paper" in rows["resnet18.tv_in1k"].presets
    assert not any("autoencoder" in preset or "draem" in preset for need in rows.values() for preset in need.presets)


def test_list_as_json(no_hub: None) -> None:
    done = CliRunner().invoke(backbones, ["list", "--json"], catch_exceptions=False)
    rows = {row["backbone"]: row for row in json.loads(done.stdout)}
    carried = rows["tf_efficientnet_lite0.in1k"]
    assert carried["sha256"] == hashlib.sha256(Path(carried["path"]).read_bytes()).hexdigest()
    assert carried["size"] == Path(carried["path"]).stat().st_size
    assert rows[NAME]["path"] is None


def test_carried_weights_are_whole() -> None:
    verdicts = {verdict.name: verdict for verdict in verify_carried()}
    assert not {name: verdict.problem for name, verdict in verdicts.items() if verdict.problem}
    assert verdicts["tf_efficientnet_lite0.in1k"].sha256.startswith("57934424"), "the digits of its published name"
