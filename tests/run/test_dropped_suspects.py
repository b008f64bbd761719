"""``data.drop_suspects``: fitted again without the normal images whose scores stand out, and what is recorded of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import ConfigError, Hooks, NormalImage, RunFolder, RunResults, hookimpl, registry, run_experiment
from anomaly_core.run import fitting
from tiny.data import Tree, write_tree
from tiny.runs import config, log_of, scores
from tiny.trainers import Descent

pytestmark = pytest.mark.usefixtures("tiny")

ODD = {"7.png": "white", "11.png": "black"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty-four normal training images, one of which is white and one black."""
    folder = write_tree(tmp_path / "parts", train=24)
    for name, colour in ODD.items():
        Image.new("RGB", (32, 32), colour).save(folder / "train" / "good" / name)
    return folder


def run(root: Path, output: Path, hooks: Hooks | None = None, **options: Any) -> RunResults:
    fixed = {"data.root": str(root), "data.holdout": None, "base.calibration": "cross", "base.folds": 12}
    return run_experiment(config(output, data="tree", **{**fixed, **options}), hooks=hooks)


def normals(result: RunResults) -> list[NormalImage]:
    return RunFolder.open(result.folder).normals()


def named(images: list[NormalImage], *flags: str) -> set[str]:
    return {Path(image.path).name for image in images if all(getattr(image, flag) for flag in flags)}


def test_they_are_named_and_left_out(root: Path, tmp_path: Path) -> None:
    kept, dropped = run(root, tmp_path / "a"), run(root, tmp_path / "b", **{"data.drop_suspects": True})
    assert named(normals(kept), "suspect") >= set(ODD) and not named(normals(kept), "dropped")
    images = normals(dropped)
    assert named(images, "dropped") == named(normals(kept), "suspect")
    assert len(images) == 24 == len({image.path for image in images})
    again = [image for image in images if not image.dropped]
    assert dropped.runs[0].calibration.scores == tuple(sorted(image.score for image in again))
    odd = len(named(normals(kept), "suspect"))
    assert f"normal images that stand out ({odd} of 24, such as" in log_of(
        kept
    ) and f"`anomaly suspects {kept.folder}`" in log_of(kept)
    log = log_of(dropped)
    assert f"data.drop_suspects: {24 - len(again)} of 24 normal images are left out" in log and "anomaly suspects" in log


def test_the_detector_is_the_one_that_never_saw_them(root: Path, tmp_path: Path) -> None:
    dropped = run(root, tmp_path / "a", **{"data.drop_suspects": True})
    for image in normals(dropped):
        if image.dropped:
            Path(image.path).unlink()
    clean = run(root, tmp_path / "b")
    np.testing.assert_array_equal(scores(dropped), scores(clean))
    before, after = (RunFolder.open(result.folder).state() for result in (dropped, clean))
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert dropped.runs[0].calibration.threshold == clean.runs[0].calibration.threshold


def test_where_none_stands_out_nothing_changes(tmp_path: Path) -> None:
    clean = write_tree(tmp_path / "clean", train=5)
    with_option, without = (run(clean, tmp_path / str(drop), **{"data.drop_suspects": drop}) for drop in (True, False))
    assert not named(normals(with_option), "dropped") and "drop_suspects" not in log_of(with_option)
    assert "stand out" not in log_of(with_option)
    np.testing.assert_array_equal(scores(with_option), scores(without))


@pytest.mark.parametrize("options", [{"data.holdout": 0.25, "base.calibration": "auto"}, {"base.calibration": "holdout"}])
def test_images_that_are_held_out_are_not_all(root: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.drop_suspects needs a score of every normal image"):
        run(root, tmp_path, **{"data.drop_suspects": True, "base.folds": 5, **options})


def test_observers_see_them_before_and_after(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    scored: list[int] = []

    class Observer:
        @hookimpl
        def anomaly_normals_scored(self, batch: Any, prediction: Any) -> None:
            assert len(batch) == len(prediction.scores) and not prediction.scores.is_cuda
            scored.append(len(batch))

        @hookimpl
        def anomaly_calibrated(self, normals: list[NormalImage]) -> None:
            normals[0].picture = "suspects/0000.png"
            seen.append((len(normals), sum(image.suspect for image in normals)))

    hooks = Hooks(registry)
    hooks._manager.register(Observer(), name="observer")
    hooks._owners["observer"] = "observer"
    result = run(root, tmp_path, hooks, **{"data.drop_suspects": True})
    (before, odd), (after, _) = seen
    assert (before, after) == (24, 24 - odd) and sum(scored) == before + after
    assert sum(image.picture == "suspects/0000.png" for image in normals(result)) >= 1


def test_each_category_is_a_measure_of_its_own(root: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "two" / "plain", train=24)
    os.rename(root, tmp_path / "two" / "odd")  # noqa: PTH104
    result = run(tmp_path / "two", tmp_path, **{"data.unified": True})
    assert {image.category for image in normals(result)} == {"plain", "odd"}
    assert named(normals(result), "suspect") >= set(ODD)


def test_no_fit_takes_the_checkpoints_of_another(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes: list[tuple[int, Path | None, bool]] = []
    fit = Descent.fit

    def noted(self: Descent, modeler: Any, train: Any, validation: Any, run: Any = None) -> Any:
        goes.append((len(train.dataset), run.folder, run.resume))
        return fit(self, modeler, train, validation, run)

    monkeypatch.setattr(Descent, "fit", noted)
    monkeypatch.setattr(fitting.NormalScores, "suspects", lambda self: self.rows[:2])
    options = {"data.root": str(root), "data.holdout": None, "data.drop_suspects": True, "base.folds": 3}
    wanted = config(tmp_path, model="mirror", data="tree", **{**options, "base.calibration": "cross"})
    result = run_experiment(wanted).runs[0]
    assert [count for count, *_ in goes] == [24, 16, 16, 16, 22, 14, 15, 15]
    assert len({folder for _, folder, _ in goes}) == len(goes)
    manifest = RunFolder.open(result.folder).manifest()
    assert manifest["dropped"] == 2 and manifest["data"]["fit"] == 24
    first = list(goes)
    goes.clear()
    (result.folder / "manifest.json").unlink()
    run_experiment(wanted, resume=result.folder)
    assert goes == [(count, folder, True) for count, folder, _ in first]


def test_a_data_set_with_normal_images_of_its_own_for_the_threshold(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = Tree.train_samples
    monkeypatch.setattr(
        Tree, "split", lambda self, category, fewest=1: (samples(self, category)[:20], samples(self, category)[20:])
    )
    with pytest.raises(ConfigError, match="has normal images of its own for the threshold"):
        run(root, tmp_path, **{"data.drop_suspects": True})
