"""Test images whose score or map is not finite: an error in their row, no verdict, and an exit status that says so."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_core import Prediction, RunFolder, run_experiment
from tiny.methods import Palette
from tiny.runs import arguments, config, log_of

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("input")]


@pytest.fixture(params=["score is NaN", "score is infinite", "map holds NaN"])
def spoilt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Palette, whose answer to images with a defect is not finite."""
    predict = Palette.predict_step

    def step(self: Palette, images: Tensor) -> Prediction:
        answer = predict(self, images)
        assert answer.maps is not None
        odd = answer.scores > 4
        if request.param == "map holds NaN":
            answer.maps[odd, 0, 0, 0] = torch.nan
        else:
            answer.scores[odd] = torch.nan if "NaN" in request.param else torch.inf
        return answer

    monkeypatch.setattr(Palette, "predict_step", step)


def test_they_are_errors_and_the_others_are_judged(spoilt: None, tmp_path: Path) -> None:
    result = run_experiment(config(tmp_path))
    (run,) = result.runs
    unscored = run.unscored
    assert 0 < len(unscored) < len(run.predictions)
    for row in unscored:
        assert math.isnan(row.score) and row.is_anomalous is row.p_value is None and "NaN or infinite" in row.error
    assert all(row.is_anomalous is not None for row in run.predictions if row not in unscored)
    assert f"{len(unscored)} of {len(run.predictions)} test images" in log_of(result)
    assert "NaN" not in (run.folder / "metrics.json").read_text() + (run.folder / "curves.json").read_text()
    with (run.folder / "predictions.csv").open(newline="") as file:
        cells = [(row["score"], row["is_anomalous"], row["p_value"], bool(row["error"])) for row in csv.DictReader(file)]
    assert cells.count(("", "", "", True)) == len(unscored)
    again = RunFolder.open(run.folder).result()
    assert [row.error for row in again.predictions] == [row.error for row in run.predictions]


def test_the_run_does_not_look_successful(spoilt: None, tmp_path: Path, anomaly: Any) -> None:
    done = anomaly(*arguments(config(tmp_path)))
    assert done.code == 1
    assert "have no finite score" in done.err and "results in" in done.out
    (manifest,) = (tmp_path / "runs").rglob("manifest.json")
    assert json.loads(manifest.read_text())["status"] == "complete"
