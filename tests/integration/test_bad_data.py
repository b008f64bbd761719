"""Folders that are not what they should be, as the data sets, metrics and pictures of other distributions see them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core import RunConfig, RunFolder, RunResults, run_experiment
from anomaly_predict import load_run
from odd_images import GOOD

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.reliability("input")]


def texture(path: Path, seed: int, size: int = 48, defect: bool = False) -> Path:
    values = np.random.default_rng(seed).integers(100, 130, (size, size, 3), dtype=np.uint8)
    if defect:
        values[10:30, 10:30] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (48, 48), value: int = 255) -> Path:
    values = np.zeros(size, dtype=np.uint8)
    values[10:30, 10:30] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def tree(root: Path, size: int = 48) -> Path:
    for seed in range(6):
        texture(root / "train" / "good" / f"{seed}.png", seed, size)
    for seed in range(2):
        texture(root / "test" / "good" / f"{seed}.png", 10 + seed, size)
        texture(root / "test" / "hole" / f"{seed}.png", 20 + seed, size, defect=True)
        mask(root / "ground_truth" / "hole" / f"{seed}_mask.png", (size, size))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "parts")


def config(root: Path, output: Path, **more: Any) -> RunConfig:
    options = {
        "data.root": str(root),
        "data.holdout": 0.34,
        "model.image_size": 48,
        "base.output": str(output),
        "base.pictures": 0,
    }
    return RunConfig.create(model="patchcore", data="folder", preset="edge", overrides={**options, **more})


def run(root: Path, output: Path, **more: Any) -> tuple[RunResults, str]:
    """The results and the log."""
    result = run_experiment(config(root, output, **{"base.metrics": ["image_auroc"], **more}))
    return result, (result.runs[0].folder / "log.txt").read_text()


def test_one_class_only(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "test" / "hole")
    result, _ = run(root, tmp_path)
    assert result.metrics["image_auroc"] is None
    assert "all 2 labels are normal" in result.runs[0].undefined["image_auroc"]
    assert result.runs[0].calibration.threshold is not None


def test_masks_without_images(root: Path, tmp_path: Path) -> None:
    mask(root / "ground_truth" / "hole" / "77_mask.png")
    _, log = run(root, tmp_path)
    assert "1 mask has no image" in log
    assert "77_mask.png" in log


def test_the_same_image_in_train_and_test_is_reported(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "train" / "good" / "3.png", root / "test" / "good" / "copy.png")
    shutil.copy(root / "train" / "good" / "4.png", root / "test" / "hole" / "9.png")
    _, log = run(root, tmp_path / "runs")
    assert "2 images are among the training and test images alike, 1 of them labelled anomalous" in log
    assert "copy.png" in log
    _, log = run(tree(tmp_path / "clean"), tmp_path / "runs")
    assert "alike" not in log


def test_categories_of_different_sizes(tmp_path: Path) -> None:
    tree(tmp_path / "set" / "small", 40)
    tree(tmp_path / "set" / "large", 90)
    for unified in (False, True):
        result, _ = run(tmp_path / "set", tmp_path / "runs", **{"data.unified": unified})
        assert result.metrics["image_auroc"] == 1
        assert len(result.runs) == (1 if unified else 2)


@pytest.mark.filterwarnings("ignore:.* of the training images", "ignore:.*several pages", "ignore:.*transparent pixels")
def test_every_unusual_image_goes_through_run_predict_and_python(
    root: Path, tmp_path: Path, anomaly: Callable[..., Any]
) -> None:
    for name, (content, _, _) in GOOD.items():
        for part in ("train/good", "test/good"):
            (root / part / name).write_bytes(content)
    result = run_experiment(config(root, tmp_path / "runs", **{"base.pictures": "all"}))
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert len(result.predictions) == 4 + len(GOOD)
    assert {Path(row["path"]).name for row in RunFolder(result.folder).read_rows("predictions.csv")} >= set(GOOD)
    assert len(list((result.folder / "maps").iterdir())) == len(result.predictions)

    paths = [str(root / "test" / "good" / name) for name in GOOD]
    detector = load_run(result.folder)
    assert bool(detector.predict(paths).scores.isfinite().all())
    for form in ("csv", "jsonl"):
        done = anomaly("predict", result.folder, *paths, *(["--jsonl"] if form == "jsonl" else []))
        assert done.code == 0, done.err
        if form == "jsonl":
            assert [json.loads(line)["path"] for line in done.out.splitlines()] == paths
