"""Scores and maps that are not finite: an error row, never a verdict, and exit status 1; JSON lines hold no bare NaN."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import Calibration, Prediction, read_image
from anomaly_predict import verdicts
from tiny.data import write_image

pytestmark = pytest.mark.reliability("input")


class Odd:
    """A detector whose score is the mean of an image, but what it was told for those of one colour."""

    calibration = Calibration(100.0, 0.1, 3, "test", scores=(10.0, 20.0, 30.0))

    def __init__(self, score: float, map_value: float) -> None:
        self.answer = score, map_value

    def decode(self, path: str | Path) -> np.ndarray:
        return np.asarray(read_image(path))

    def score(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [
            Prediction(np.float32([score]), np.full((1, 1, 2, 2), value, np.float32))
            for image in images
            for score, value in [self.answer if image.mean() == 7 else (image.mean(), 0.0)]
        ]


@pytest.fixture(params=[(np.nan, 0.0), (np.inf, 0.0), (-np.inf, 0.0), (5.0, np.nan), (500.0, np.inf)], ids=str)
def odd(request: pytest.FixtureRequest) -> Odd:
    return Odd(*request.param)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [
        write_image(tmp_path / f"{number}.png", np.full((8, 8, 3), value, np.uint8)) for number, value in enumerate([5, 7, 200])
    ]


def test_it_is_an_error_row_and_the_others_are_judged(odd: Odd, paths: list[Path]) -> None:
    first, second, third = verdicts(odd, paths, batch_size=2)
    assert (first.is_anomalous, third.is_anomalous) == (False, True)
    assert second.score is second.is_anomalous is second.p_value is None
    assert str(paths[1]) in second.error and "no verdict" in second.error


@pytest.mark.parametrize("jsonl", [False, True])
def test_the_command_says_so(
    jsonl: bool, odd: Odd, paths: list[Path], anomaly: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("anomaly_predict.detector.open_detector", lambda *_, **__: odd)
    done = anomaly("predict", tmp_path, *paths, *(["--jsonl"] if jsonl else []))
    assert done.code == 1 and str(paths[1]) in done.err
    if jsonl:
        rows = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in done.out.splitlines()]
        assert [row["is_anomalous"] for row in rows] == [False, None, True]
    else:
        cells = [(row["score"], row["is_anomalous"]) for row in csv.DictReader(io.StringIO(done.out))]
        assert cells == [("5.0", "0"), ("", ""), ("200.0", "1")]
