"""A transductive method collects the test images of a run, of which it is told nothing; normal images set its threshold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, Sample, run_experiment
from anomaly_core.base.data import BaseDataModule
from tiny.data import Weave, write_tree
from tiny.methods import Palette
from tiny.runs import config, log_of

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The samples that are loaded to fit on, and the images that are collected."""
    seen: dict[str, list[Any]] = {"samples": [], "images": []}
    loader, collect = BaseDataModule.loader, Palette.collect

    def watched(self: BaseDataModule, samples: list[Sample], *arguments: Any, **options: Any) -> Any:
        seen["samples"] += samples if "shuffle" in options else []
        return loader(self, samples, *arguments, **options)

    def collected(self: Palette, images: Tensor) -> None:
        seen["images"] += list(images)
        collect(self, images)

    monkeypatch.setattr(Palette, "transductive", True)
    monkeypatch.setattr(BaseDataModule, "loader", watched)
    monkeypatch.setattr(Palette, "collect", collected)
    return seen


def test_it_collects_the_test_images_without_their_labels(tmp_path: Path, seen: dict[str, list[Any]]) -> None:
    result = run_experiment(config(tmp_path, **{"data.holdout": None})).runs[0]
    tested = [row.path for row in result.predictions]
    assert [str(sample.path) for sample in seen["samples"]] == tested
    assert len(seen["images"]) == len(tested) == result.figures["remembered_images"]
    assert {(sample.label, sample.mask_path, sample.defect) for sample in seen["samples"]} == {(None, None, "")}
    assert {row.label for row in result.predictions} == {0, 1}  # which the evaluation knows
    assert result.metrics["auroc"] is not None


@pytest.mark.parametrize(("holdout", "count"), [(None, 8), (0.25, 2)])
def test_normal_images_set_the_threshold_alone(tmp_path: Path, holdout: float | None, count: int) -> None:
    result = run_experiment(config(tmp_path, **{"data.holdout": holdout}))
    assert result.runs[0].calibration.count == count
    assert result.runs[0].calibration.scored_by == "holdout"
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["transductive"] is True
    assert manifest["data"]["fit"] == manifest["data"]["test"] == 7
    assert "the 7 images to test are compared with one another, without labels" in log_of(result)
    assert f"{count} normal images set the threshold, and nothing else" in log_of(result)
    assert "alike" not in log_of(result)


def test_a_complete_run_is_read_again(tmp_path: Path) -> None:
    first = run_experiment(config(tmp_path))
    again = run_experiment(config(tmp_path), resume=True)
    assert again.folder == first.folder


def test_without_normal_images_there_are_scores_and_no_threshold(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "parts")
    shutil.rmtree(root / "train" / "good")
    (root / "train" / "good").mkdir()
    result = run_experiment(config(tmp_path, data="tree", **{"data.root": str(root), "data.holdout": None}))
    assert result.runs[0].calibration.threshold is None
    assert all(row.is_anomalous is None for row in result.predictions)
    assert torch.tensor([row.score for row in result.predictions]).isfinite().all()
    assert "no image is known to be normal" in log_of(result)


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in (("drop_suspects", True), ("augment", ["rotate:5"])):
        with pytest.raises(ConfigError, match=rf"data\.{option} is for normal images.*learns none"):
            run_experiment(config(tmp_path, **{f"data.{option}": value, "data.holdout": None}))
    monkeypatch.setattr(Palette, "fewest_images", 9)
    with pytest.raises(DataError, match="7 images to compare with one another, and the method needs 9"):
        run_experiment(config(tmp_path))


def test_training_images_of_unknown_label_are_compared_and_set_no_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: dict[str, list[Any]]
) -> None:
    train = Weave.train_samples
    monkeypatch.setattr(
        Weave, "train_samples", lambda self, name: [replace(sample, label=None) for sample in train(self, name)]
    )
    result = run_experiment(config(tmp_path, **{"data.holdout": None})).runs[0]
    assert len(seen["images"]) == 7 + 8
    assert result.calibration.threshold is None
