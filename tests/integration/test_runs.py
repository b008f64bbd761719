"""A run of PatchCore from end to end on small generated images: what it writes, that it repeats, and its pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import RunConfig, RunResults, run_experiment
from anomaly_predict import load_run

pytestmark = pytest.mark.usefixtures("without_report")
TINY = {"data.size": 96, "data.train_count": 8, "data.good_count": 3, "data.bad_count": 5}
SMALL = {**TINY, "model.image_size": 96, "model.coreset_ratio": 0.05}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("sample")


def config(root, tmp_path, **more):
    options = {
        **SMALL,
        "data.root": str(root),
        "data.category": ["fabric"],
        "base.output": str(tmp_path / "runs"),
        "base.pictures": 3,
    }
    return RunConfig.create(model="patchcore", data="sample", preset="edge", overrides={**options, **more})


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    return run_experiment(config(root, tmp_path_factory.mktemp("finished")))


def scores(result):
    return np.array([row.score for row in result.predictions])


def test_a_run_leaves_everything_that_it_promises(finished):
    folder = finished.folder
    for name in (
        "config.yaml",
        "manifest.json",
        "model.safetensors",
        "calibration.json",
        "metrics.json",
        "predictions.csv",
        "log.txt",
    ):
        assert (folder / name).is_file(), name
    assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics"]["image_auroc"]["value"] == finished.metrics["image_auroc"] > 0.8
    assert metrics["metrics"]["pixel_auroc"]["value"] > 0.8
    assert metrics["resolution"] == {"evaluated_at": "input", "smallest": [96, 96], "largest": [96, 96]}
    with (folder / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(finished.predictions) == metrics["images"]
    pictures = sorted((folder / "maps").glob("*.png"))
    assert len(pictures) == 3
    with Image.open(pictures[0]) as panel:
        assert panel.width > 4 * 96
    assert not list(folder.glob(".*.part"))


def test_the_saved_config_gives_the_same_scores(finished):
    again = run_experiment(RunConfig.create(config=finished.folder / "config.yaml"))
    assert again.folder != finished.folder
    assert np.array_equal(scores(again), scores(finished))


@pytest.mark.parametrize(("option", "value"), [("data.batch_size", 3), ("data.num_workers", 1)])
def test_batches_and_workers_do_not_change_the_scores(root, tmp_path, finished, option, value):
    other = run_experiment(config(root, tmp_path, **{option: value}))
    assert np.allclose(scores(other), scores(finished), rtol=1e-4, atol=0)


def test_a_loaded_run_takes_every_form_of_image_and_agrees(finished):
    detector = load_run(finished.folder)
    row = finished.predictions[0]
    with Image.open(row.path) as opened:
        picture = opened.convert("RGB")
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms = [row.path, picture, array, tensor, tensor.float() / 255]
    for form in forms:
        prediction = detector.predict(form)
        assert float(prediction.scores[0]) == pytest.approx(row.score, rel=1e-4)
        assert prediction.maps.shape == (1, 1, 96, 96)
    assert detector.predict(forms, batch_size=2).scores.shape == (5,)
    assert detector.predict(np.stack([array, array])).scores.shape == (2,)


def test_several_categories_and_unified(root, tmp_path):
    each = run_experiment(config(root, tmp_path, **{"data.category": ["fabric", "wood"]}))
    assert [run.category for run in each.runs] == ["fabric", "wood"]
    mean = sum(run.metrics["image_auroc"] for run in each.runs) / 2
    assert each.metrics["image_auroc"] == pytest.approx(mean)
    together = run_experiment(config(root, tmp_path, **{"data.category": ["fabric", "wood"], "data.unified": True}))
    assert len(together.runs) == 1
    assert set(together.runs[0].measures["image_auroc"].categories) == {"fabric", "wood"}


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
def test_non_square_inputs(root, tmp_path, resize):
    options = {"model.image_size": (64, 96), "model.center_crop": (64, 80), "model.resize": resize}
    result = run_experiment(config(root, tmp_path, **options))
    assert json.loads((result.folder / "metrics.json").read_text())["resolution"]["largest"] == [64, 80]


def test_no_held_out_image_means_no_threshold_and_says_so(root, tmp_path):
    result = run_experiment(config(root, tmp_path, **{"data.holdout": 0}))
    assert result.metrics["image_f1"] is None
    assert "no normal image was left to set it" in result.runs[0].undefined["image_f1"]
    assert result.metrics["image_auroc"] is not None


def test_predict_prints_scores_and_writes_maps(finished, tmp_path, anomaly):
    image = finished.predictions[0].path
    done = anomaly("predict", finished.folder, image, "--maps", tmp_path / "maps")
    assert done.code == 0
    assert float(next(csv.DictReader(done.out.splitlines()))["score"]) == pytest.approx(finished.predictions[0].score, rel=1e-4)
    (picture,) = (tmp_path / "maps").glob("*.png")
    with Image.open(picture) as panel:
        assert panel.width < 4 * 96  # image, map and overlay: nobody expects a mask of a new image
    done = anomaly("predict", finished.folder, image, "--jsonl")
    assert json.loads(done.out)["path"] == image


@pytest.mark.slow
def test_jobs_draw_the_same_pictures_in_the_same_order(
    finished: RunResults, tmp_path: Path, anomaly: Callable[..., Any], process: Callable[..., Any]
) -> None:
    paths = [row.path for row in finished.predictions]
    alone = anomaly("predict", finished.folder, *paths, "--maps", tmp_path / "alone")
    shared = process("predict", finished.folder, *paths, "--jobs", "2", "--maps", tmp_path / "shared")
    assert shared.code == 0, shared.err
    first, second = ([row.split(",")[:2] for row in done.out.splitlines()[1:]] for done in (alone, shared))
    assert [path for path, _ in first] == [path for path, _ in second] == paths
    np.testing.assert_allclose([float(score) for _, score in first], [float(score) for _, score in second], rtol=1e-4)
    names = [f"{index:05}-{Path(path).stem}.png" for index, path in enumerate(paths)]
    for folder in ("alone", "shared"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
