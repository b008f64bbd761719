"""What an observer is told of an evaluation and of a detector in use; one that fails costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import run_experiment
from anomaly_predict import evaluate, load_run
from diary import pages, told
from tiny.data import draw, write_image
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")


def test_an_evaluation_is_a_run_of_its_own(diary: Any, tmp_path: Path) -> None:
    folder = run_experiment(config(tmp_path)).folder
    diary.PAGES.clear()
    result = evaluate(folder)
    assert told(diary) == ["configure", "run_start", "scored", "tested", "run_end"]
    assert {arguments["run"].folder for _, arguments in diary.PAGES if "run" in arguments} == {result.folder}
    assert pages(diary, "run_start")[0]["run"].facts["evaluates"] == str(folder)
    assert pages(diary, "run_end")[0]["results"] is result


def test_a_detector_in_use_is_told_of(diary: Any, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    folder = run_experiment(config(tmp_path)).folder
    diary.PAGES.clear()
    good = write_image(tmp_path / "new" / "good.png", draw(1)[0])
    bad = tmp_path / "new" / "bad.png"
    bad.write_bytes(b"no picture")
    done = anomaly("predict", folder, tmp_path / "new")
    assert done.code == 1 and told(diary) == ["predicted"]
    broken, sound = pages(diary, "predicted")
    assert (broken["verdict"].path, broken["image"], broken["prediction"]) == (str(bad), None, None)
    assert "cannot read the image" in broken["verdict"].error
    assert (sound["verdict"].path, sound["verdict"].error) == (str(good), "")
    assert (sound["image"].shape, sound["image"].dtype) == ((32, 32, 3), np.uint8)
    expected = load_run(folder).predict(good)
    assert sound["verdict"].score == sound["prediction"].score == float(expected.scores[0])
    np.testing.assert_array_equal(sound["prediction"].maps, expected.maps)
    assert sound["detector"].calibration == load_run(folder).calibration
    assert sound["picture"] is broken["picture"] is None


def test_an_observer_that_fails_while_a_detector_is_used_is_a_warning(
    diary: Any, tmp_path: Path, anomaly: Callable[..., Any]
) -> None:
    folder = run_experiment(config(tmp_path)).folder
    write_image(tmp_path / "new" / "good.png", draw(1)[0])

    def fail(**_: Any) -> None:
        raise ValueError("out of ink")

    diary.WORK["anomaly_predicted"] = fail
    done = anomaly("predict", folder, tmp_path / "new")
    assert done.code == 0 and done.err.count("out of ink") == 1
    assert "good.png" in done.out
