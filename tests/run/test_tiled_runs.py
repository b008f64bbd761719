"""Runs on images that are larger than the input: by tiles, from fitting to prediction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import RunConfig, RunResults, run_experiment
from tiny.runs import config, log_of, scores
from woven import tree

pytestmark = pytest.mark.usefixtures("tiny")


def tiles(root: Path, output: Path, model: str = "palette", **options: Any) -> RunConfig:
    common = {"data.root": str(root), "data.tile": 64, "data.tile_overlap": 16, "data.batch_size": 5, "model.image_size": 64}
    return config(output, model=model, data="tree", **{**common, **options})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("tree") / "weave")


@pytest.fixture(scope="module")
def finished(tiny: object, root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(tiles(root, tmp_path_factory.mktemp("tiled")))


def test_a_run_on_images_of_different_sizes(finished: RunResults) -> None:
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert metrics["metrics"]["auroc"]["value"] == 1
    assert metrics["metrics"]["contrast"]["value"] > 0.5
    assert metrics["resolution"] == {"evaluated_at": "native", "smallest": [50, 40], "largest": [150, 190]}


def test_an_image_of_one_tile_scores_as_it_does_untiled(root: Path, tmp_path: Path) -> None:
    one = run_experiment(tiles(root, tmp_path, **{"data.tile": 512, "data.tile_overlap": 64}))
    whole = run_experiment(tiles(root, tmp_path, **{"data.tile": None, "data.tile_overlap": None}))
    np.testing.assert_allclose(scores(one), scores(whole), rtol=1e-6)
    assert one.runs[0].calibration.threshold == pytest.approx(whole.runs[0].calibration.threshold, rel=1e-6)


def test_unified_categories_not_square_and_cropped(tmp_path: Path) -> None:
    for name in ("weave", "other"):
        tree(tmp_path / "set" / name)
    options = {
        "data.unified": True,
        "data.tile": (48, 72),
        "data.tile_overlap": None,
        "model.image_size": (72, 96),
        "model.center_crop": (64, 80),
        "model.resize": "keep",
    }
    result = run_experiment(tiles(tmp_path / "set", tmp_path, **options))
    assert set(result.runs[0].measures["auroc"].categories) == {"weave", "other"}
    assert result.metrics["auroc"] == 1
    assert "never be seen" in log_of(result)


def test_a_budget_that_is_too_small_is_said(root: Path, tmp_path: Path) -> None:
    result = run_experiment(tiles(root, tmp_path, "mirror", **{"data.image_cache": "100KB", "train.epochs": 1}))
    assert "Raise data.image_cache" in log_of(result)
    assert result.metrics["residue"] is not None
