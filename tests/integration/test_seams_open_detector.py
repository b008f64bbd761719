"""``open_detector`` on a run's folder: a Detector as any, which needs to know nothing of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seams import NOBODY, added, config, run

from anomaly_core import DataError, Detector, Hooks, RunError, RunResults
from anomaly_predict import RunDetector, open_detector, verdicts
from tiny.plugin import MIRROR, PALETTE


@pytest.fixture(autouse=True)
def components() -> Iterator[None]:
    with added(palette=PALETTE, mirror=MIRROR):
        yield


def of(output: Path, model: str = "palette", **options: Any) -> RunResults:
    trainer = "memory" if model == "palette" else "gradient"
    epochs = {"train.epochs": 2} if trainer == "gradient" else {}
    return run(config(output, model, **{"train.name": trainer, **epochs, **options}))


@pytest.mark.parametrize("model", ["palette", "mirror"])
def test_it_scores_files_as_the_run_did(tmp_path: Path, model: str) -> None:
    result = of(tmp_path, model)
    detector: Detector = open_detector(result.folder, device="cpu")
    assert isinstance(detector, RunDetector)
    assert detector.calibration == result.runs[0].calibration
    images = [detector.decode(row.path) for row in result.predictions]
    assert {(image.dtype, image.shape) for image in images} == {(np.dtype(np.uint8), (32, 32, 3))}
    predictions = detector.score(images)
    assert [prediction.score for prediction in predictions] == pytest.approx([row.score for row in result.predictions])
    for prediction in predictions:
        assert prediction.maps is not None and prediction.maps.shape == (1, 1, 32, 32)
        assert isinstance(prediction.maps, np.ndarray) and prediction.maps.dtype == np.float32
        assert (prediction.reconstruction is not None) == (model == "mirror")


def test_of_a_tiled_run_images_keep_their_own_size(tmp_path: Path) -> None:
    result = of(tmp_path, **{"data.size": 64, "data.tile": 32})
    detector = open_detector(result.folder, device="cpu")
    (prediction,) = detector.score([detector.decode(result.predictions[0].path)])
    assert prediction.maps is not None and prediction.maps.shape == (1, 1, 64, 64)
    assert prediction.score == pytest.approx(result.predictions[0].score)


def test_its_verdicts_are_those_of_the_run(tmp_path: Path) -> None:
    result = of(tmp_path, **{"base.false_alarm_rate": 0.4})
    paths = [Path(row.path) for row in result.predictions]
    answers = list(verdicts(open_detector(result.folder, device="cpu"), paths, hooks=Hooks(NOBODY)))
    assert [answer.is_anomalous for answer in answers] == [row.is_anomalous for row in result.predictions]
    assert [answer.p_value for answer in answers] == [row.p_value for row in result.predictions]


def test_what_it_cannot_open_or_read_is_named(tmp_path: Path) -> None:
    result = of(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not a run's folder"):
        open_detector(tmp_path / "empty")
    (result.folder / "manifest.json").write_text('{"format": 1, "status": "failed"}')
    with pytest.raises(RunError, match="'failed', not complete"):
        open_detector(result.folder)
    (tmp_path / "noise.png").write_bytes(b"noise")
    detector = open_detector(of(tmp_path).folder, device="cpu")
    with pytest.raises(DataError, match="cannot read the image"):
        detector.decode(tmp_path / "noise.png")


def test_it_answers_the_command_line_alike(tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    result = of(tmp_path)
    outcome = anomaly("predict", result.folder, *[row.path for row in result.predictions], "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert [float(line.split(",")[1]) for line in outcome.out.splitlines()[1:]] == pytest.approx(
        [row.score for row in result.predictions]
    )
