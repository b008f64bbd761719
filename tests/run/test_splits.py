"""Data sets that are not what they should be: each is refused by name, or used with a word about what that means."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import DataError, RunConfig, RunResults, run_experiment
from anomaly_core.imaging import formats
from odd_images import encoded, noise, refusing, spoil
from tiny.data import draw, write_image, write_mask, write_tree
from tiny.runs import arguments, config, log_of

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("input")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "parts")


def of_tree(root: Path, output: Path, **options: Any) -> RunConfig:
    return config(output, data="tree", **{"data.root": str(root), "data.holdout": 0.34, **options})


def run(root: Path, output: Path, **options: Any) -> RunResults:
    return run_experiment(of_tree(root, output, **options))


def manifest(result: RunResults) -> Any:
    return json.loads((result.folder / "manifest.json").read_text())


def test_the_same_image_in_train_and_test_is_reported(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "train" / "good" / "3.png", root / "test" / "good" / "copy.png")
    shutil.copy(root / "train" / "good" / "4.png", root / "test" / "blot" / "9.png")
    log = log_of(run(root, tmp_path))
    assert "2 images are among the training and test images alike, 1 of them labelled anomalous" in log
    assert "train/good/4.png" in log and "test/blot/9.png" in log  # the first, with its twin
    assert "alike" not in log_of(run(write_tree(tmp_path / "clean"), tmp_path))


def test_one_class_only(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "test" / "blot")
    result = run(root, tmp_path)
    assert result.metrics["auroc"] is None
    assert result.runs[0].undefined["auroc"] == "none of 2 images has the label 1"
    assert result.runs[0].calibration.threshold is not None


def test_a_mask_of_another_size(root: Path, tmp_path: Path) -> None:
    write_mask(root / "ground_truth" / "blot" / "1_mask.png", np.ones((32, 28), dtype=bool))
    with pytest.raises(DataError, match=r"1_mask\.png' is 28x32, its image .* 32x32"):
        run(root, tmp_path)
    assert len(run(root, tmp_path, **{"data.on_bad_image": "skip"}).predictions) == 3


def test_a_mask_of_zeros_leaves_the_label_as_it_is_and_is_said(root: Path, tmp_path: Path) -> None:
    write_mask(root / "ground_truth" / "blot" / "1_mask.png", np.zeros((32, 32), dtype=bool))
    result = run(root, tmp_path)
    assert "1 images are labelled anomalous and their masks mark no pixel" in log_of(result)
    assert [row.label for row in result.predictions] == [1, 1, 0, 0]


def test_categories_of_different_sizes(tmp_path: Path) -> None:
    write_tree(tmp_path / "set" / "small", side=30)
    write_tree(tmp_path / "set" / "large", side=90)
    for unified in (False, True):
        result = run(tmp_path / "set", tmp_path, **{"data.unified": unified})
        assert result.metrics["auroc"] == 1
        assert len(result.runs) == (1 if unified else 2)


def test_the_digest_of_what_was_skipped_is_that_of_what_was_used(root: Path, tmp_path: Path) -> None:
    def digest() -> str:
        return str(manifest(run(root, tmp_path, **{"data.on_bad_image": "skip"}))["data"]["digest"])

    before = digest()
    (root / "test" / "good" / "dangling.png").symlink_to("nowhere.png")
    assert digest() == before
    shutil.copy(root / "test" / "good" / "0.png", root / "test" / "good" / "more.png")
    assert digest() != before


@pytest.mark.parametrize("part", ["train/good", "test/good", "test/blot"])
def test_a_run_stops_before_training_and_names_the_file(
    part: str, root: Path, tmp_path: Path, anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiny.trainers.OnePass.fit", lambda *_: pytest.fail("it was trained"))
    (root / part / "broken.png").write_bytes(encoded(noise())[:2000])
    settings = of_tree(root, tmp_path)
    with pytest.raises(DataError, match=r"broken\.png.*data\.on_bad_image=skip"):
        run_experiment(settings)
    done = anomaly(*arguments(settings))
    assert done.code == 1
    assert "broken.png" in done.err
    assert "Traceback" not in done.out + done.err
    statuses = [json.loads(path.read_text())["status"] for path in (tmp_path / "runs").glob("*/*/*/*/manifest.json")]
    assert statuses == ["failed", "failed"]


def test_a_run_that_skips_lists_every_kind_and_scores_none_of_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        names = {part: spoil(root / part, patch) for part in ("train/good", "test/good")}
    monkeypatch.setattr(formats, "open_image", refusing(*(root / part / "forbidden.png" for part in names)))
    result = run(root, tmp_path, **{"data.on_bad_image": "skip"})
    facts = manifest(result)
    expected = {str(root / part / name) for part, bad in names.items() for name in bad}
    assert {item["path"] for item in facts["skipped"]} == expected
    assert all(Path(item["path"]).name in item["reason"] for item in facts["skipped"])
    assert facts["data"]["fit"] + facts["data"]["held_out"] == 6
    assert facts["data"]["test"] == 4
    with (result.folder / "predictions.csv").open(newline="") as file:
        scored = {row["path"] for row in csv.DictReader(file)}
    assert scored == {str(path) for path in (root / "test").rglob("[01].png")}
    assert result.metrics["auroc"] == 1
    assert f"cannot be used (data.on_bad_image=skip): {len(expected)} images" in log_of(result)


def test_nothing_left_to_fit_or_to_test_is_an_error(root: Path, tmp_path: Path) -> None:
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 4 test images"):
        run(root, tmp_path, **{"data.on_bad_image": "skip"})


def test_no_test_image_at_all_is_an_error(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "test")
    with pytest.raises(DataError, match="parts of 'tree' has no test image under"):
        run(root, tmp_path)


def test_an_image_that_is_held_out_and_fitted_is_reported(root: Path, tmp_path: Path) -> None:
    for index in range(6):
        write_image(root / "train" / "good" / f"{index}.png", draw(1)[0])
    assert "4 images are among the fitted and held-out images alike" not in log_of(run(root, tmp_path, **{"data.holdout": 0.0}))
    assert "2 images are among the fitted and held-out images alike" in log_of(run(root, tmp_path))
