"""A finished run tested again: on its own data it finds the same, on other data at its own threshold."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sealing import seal

from anomaly_core import ConfigError, DataError, ImageReader, RunError, RunFolder, RunResults, run_experiment
from anomaly_predict import evaluate
from odd_images import spoil
from tiny.data import write_tree
from tiny.runs import config, scores

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished")))


def test_on_its_own_data_it_finds_the_same(finished: RunResults) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished.folder.iterdir() if path.is_file()}
    again = evaluate(finished.folder)
    assert np.array_equal(scores(again), scores(finished))
    assert again.metrics == finished.metrics
    assert again.calibration == finished.runs[0].calibration
    assert (again.folder / "predictions.csv").read_bytes() == (finished.folder / "predictions.csv").read_bytes()
    assert again.folder.is_relative_to(finished.folder / "evaluations")
    manifest = RunFolder.open(again.folder).manifest()
    assert (manifest["status"], manifest["evaluates"]) == ("complete", str(finished.folder))
    assert {path.name: path.stat().st_mtime_ns for path in finished.folder.iterdir() if path.is_file()} == before


def test_each_image_is_decoded_once(finished: RunResults, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Counter[str] = Counter()
    read = ImageReader._decoded

    def counted(self: ImageReader, image: Image.Image, known: bool) -> Any:
        decoded[str(getattr(image, "filename", "") or image.fp.name)] += 1
        return read(self, image, known)

    monkeypatch.setattr(ImageReader, "_decoded", counted)
    result = evaluate(finished.folder)
    assert decoded == Counter(row.path for row in result.predictions)


def test_on_other_data_its_own_threshold_holds(finished: RunResults, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "other", good=4, bad=1, seed=7000)
    result = evaluate(finished.folder, data="tree", overrides={"data.root": str(root)})
    assert len(result.predictions) == 5 and result.category == "other"
    assert result.calibration == finished.runs[0].calibration
    threshold = finished.runs[0].calibration.threshold
    assert [row.is_anomalous for row in result.predictions] == [row.score > threshold for row in result.predictions]


def test_metrics_may_be_others(finished: RunResults) -> None:
    result = evaluate(finished.folder, overrides={"base.metrics": ["best_accuracy"]})
    assert list(result.metrics) == ["best_accuracy"]


def test_several_categories_are_judged_apart(finished: RunResults) -> None:
    result = evaluate(finished.folder, overrides={"data.category": ["linen", "wool"]})
    assert result.category == "unified"
    assert set(result.measures["auroc"].categories) == {"linen", "wool"}


def test_what_cannot_be_evaluated_is_said(finished: RunResults, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run's folder"):
        evaluate(tmp_path)
    with pytest.raises(ConfigError, match="no category 'silk'"):
        evaluate(finished.folder, overrides={"data.category": ["silk"]})
    root = write_tree(tmp_path / "spoilt")
    for path in root.rglob("test/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the test images can be used"):
        evaluate(finished.folder, data="tree", overrides={"data.root": str(root), "data.on_bad_image": "skip"})


def test_an_evaluation_that_fails_says_so_in_its_own_folder(
    finished: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, *_: object) -> None:
        raise DataError("the card of the camera is full.")

    before = set(finished.folder.rglob("manifest.json"))
    monkeypatch.setattr("tiny.metrics.Auroc.update", fail)
    with pytest.raises(DataError, match="camera is full"):
        evaluate(finished.folder)
    (manifest,) = set(finished.folder.rglob("manifest.json")) - before
    assert json.loads(manifest.read_text())["status"] == "failed"
    assert RunFolder(finished.folder).is_complete()


def test_what_is_read_again_is_what_was_returned(finished: RunResults) -> None:
    again = evaluate(finished.folder)
    assert RunFolder.open(again.folder).result() == again


def test_images_that_cannot_be_used_are_left_out_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "parts")
    settings = config(tmp_path, data="tree", **{"data.root": str(root), "data.on_bad_image": "skip"})
    folder = run_experiment(settings).folder
    names = spoil(root / "test" / "good", monkeypatch)
    again = evaluate(folder)
    assert f"cannot be used (data.on_bad_image=skip): {len(names)} images" in (again.folder / "log.txt").read_text()
    assert len(again.predictions) == 4
    listed = RunFolder.open(again.folder).manifest()["skipped"]
    assert {item["path"] for item in listed} == {str(root / "test" / "good" / name) for name in names}


@pytest.mark.reliability("security")
@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("linked", ["evaluations", "evaluations/weave", "evaluations/weave/linen/palette"])
def test_an_evaluation_is_written_into_no_folder_that_a_link_leads_to(
    finished: RunResults, tmp_path: Path, linked: str
) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(finished.folder, run, ignore=shutil.ignore_patterns("evaluations"))
    (outside / "weave" / "linen" / "palette").mkdir(parents=True)
    before = sorted(outside.rglob("*"))
    (run / linked).parent.mkdir(parents=True, exist_ok=True)
    (run / linked).symlink_to(outside)
    with pytest.raises(RunError, match=r"leads out of the folder.*--output"):
        evaluate(run)
    assert sorted(outside.rglob("*")) == before
    assert evaluate(run, output=tmp_path / "mine").folder.is_relative_to(tmp_path / "mine")


@pytest.mark.reliability("fault")
def test_a_run_that_was_moved_or_cannot_be_written_is_evaluated_elsewhere(finished: RunResults, tmp_path: Path) -> None:
    run = tmp_path / "moved and renamed"
    shutil.copytree(finished.folder, run, ignore=shutil.ignore_patterns("evaluations"))
    assert np.array_equal(scores(evaluate(run)), scores(finished))
    shutil.rmtree(run / "evaluations")
    (run / "evaluations").write_text("")  # as a folder without the right to write, for root too
    with pytest.raises(RunError, match=r"cannot make the folder .* Choose another with --output"):
        evaluate(run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    result = evaluate(run, output=tmp_path / "results")
    assert result.folder.is_relative_to(tmp_path / "results") and np.array_equal(scores(result), scores(finished))
    assert RunFolder.open(result.folder).manifest()["evaluates"] == str(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.reliability("security")
def test_where_a_strangers_config_would_write_nothing_is_written(finished: RunResults, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.folder, run, ignore=shutil.ignore_patterns("evaluations"))
    sections = yaml.safe_load((run / "config.yaml").read_text())
    sections["base"]["output"] = str(tmp_path / "outside")
    (run / "config.yaml").write_text(yaml.safe_dump(sections))
    evaluate(seal(run))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
