"""A run with tiles in use: its scores and maps are those of the run, whatever the images' sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_core import RunConfig, RunResults, image_size, read_image, run_experiment
from anomaly_core.imaging.tiles import Tiling
from anomaly_predict import evaluate, load_run, verdicts
from tiny.runs import config, scores
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


def test_evaluate_and_predict_do_as_the_run_did(finished: RunResults) -> None:
    again = evaluate(finished.folder)
    assert np.array_equal(scores(again), scores(finished))
    detector = load_run(finished.folder)
    paths = [row.path for row in finished.predictions]
    prediction = detector.predict(paths)
    np.testing.assert_allclose(prediction.scores.numpy(), scores(finished), rtol=1e-6)
    assert prediction.maps is not None
    assert prediction.maps.shape == (4, 1, 180, 190)
    height, width = image_size(paths[0])
    torch.testing.assert_close(prediction.maps[:1, :, :height, :width], detector.predict(paths[0]).maps)
    assert bool(prediction.maps[0, :, height:].isnan().all())
    array = np.asarray(read_image(paths[1]))
    assert float(detector.predict(array).scores[0]) == float(prediction.scores[1])
    streamed = detector.score([detector.decode(path) for path in paths])
    assert [one.score for one in streamed] == prediction.scores.tolist()
    assert [one.maps.shape[-2:] for one in streamed if one.maps is not None] == [image_size(path) for path in paths]


def test_images_of_a_run_with_tiles_are_held_one_at_a_time(finished: RunResults, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, together = load_run(finished.folder), []
    score = detector.score
    monkeypatch.setattr(detector, "score", lambda images: together.append(len(images)) or score(images))
    found = [verdict.score for verdict in verdicts(detector, [Path(row.path) for row in finished.predictions])]
    assert found == pytest.approx(scores(finished)) and together == [1, 1, 1, 1]


def test_the_score_of_an_image_is_that_of_its_worst_tile(finished: RunResults) -> None:
    detector = load_run(finished.folder)
    image = np.asarray(read_image(finished.predictions[0].path))
    boxes = Tiling((64, 64), 16).boxes(*image.shape[:2])
    assert len(boxes) > 1
    alone = [float(detector.predict(image[b.top : b.bottom, b.left : b.right]).scores[0]) for b in boxes]
    assert float(detector.predict(image).scores[0]) == pytest.approx(max(alone), rel=1e-6)


def test_regions_of_tiled_images_are_in_their_own_pixels(finished: RunResults) -> None:
    detector = load_run(finished.folder)
    paths = [Path(row.path) for row in finished.predictions]
    several = detector.predict(paths)  # of different sizes, and so padded
    for number, verdict in enumerate(verdicts(detector, paths)):
        assert verdict.size == image_size(verdict.path) and verdict.regions is not None
        assert detector.regions(several[number : number + 1], verdict.size) == verdict.regions
        assert several.maps is not None and detector.calibration.map_threshold is not None
        above = int((several.maps[number] > detector.calibration.map_threshold).sum())
        assert sum(region.area for region in verdict.regions) == above
        assert all(region.box == region.map_box for region in verdict.regions)
