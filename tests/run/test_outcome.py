"""The verdicts counted in words: what a run prints first."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from anomaly_core import Calibration, RunResult, TestedImage

HUNDRED = Calibration(1.0, 0.01, 199, "199 held-out normal images")


def images(label: int | None, called: int, passed: int, category: str = "fabric") -> list[TestedImage]:
    return [TestedImage("a.png", category, "", label, 2.0 - i, i < 1) for i in [0] * called + [1] * passed]


def result(rows: list[TestedImage], calibration: Calibration = HUNDRED) -> RunResult:
    if calibration.threshold is None:
        rows = [replace(row, is_anomalous=None) for row in rows]
    return RunResult(Path("run"), "fabric", {}, {}, rows, calibration, 1.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [*images(1, 185, 1128), *images(0, 0, 176)],
            "found 185 of 1,313 defects, 0 false alarms in 176 good images, at a threshold for 1 false alarm in 100",
        ),
        (
            [*images(1, 1, 0), *images(0, 1, 0)],
            "found 1 of 1 defect, 1 false alarm in 1 good image, at a threshold for 1 false alarm in 100",
        ),
        (
            images(1, 2, 1),
            "found 2 of 3 defects, at a threshold for 1 false alarm in 100; no good image was tested, "
            "so false alarms were not counted",
        ),
        (
            images(0, 2, 1),
            "2 false alarms in 3 good images, at a threshold for 1 false alarm in 100; no defect was tested",
        ),
        (images(None, 1, 1), "1 of 2 images without a label called anomalous, at a threshold for 1 false alarm in 100"),
        (
            [*images(1, 1, 0), *images(0, 0, 1), *images(None, 0, 1)],
            "found 1 of 1 defect, 0 false alarms in 1 good image, 0 of 1 image without a label called anomalous, "
            "at a threshold for 1 false alarm in 100",
        ),
        ([], "no image was tested"),
    ],
)
def test_the_verdicts_are_counted_by_label(rows: list[TestedImage], words: str) -> None:
    assert result(rows).outcome() == words


def test_an_image_without_a_score_is_neither_found_nor_missed() -> None:
    broken = TestedImage("b.png", "fabric", "", 1, math.nan, error="no finite score")
    words = result([*images(1, 1, 1), *images(0, 0, 1), broken]).outcome()
    assert words.startswith("found 1 of 2 defects, 0 false alarms in 1 good image, ")
    assert words.endswith("; 1 image without a score, and so without a verdict")
    assert result([broken]).outcome() == "1 image without a score, and so without a verdict"


def test_without_a_threshold_there_are_no_verdicts() -> None:
    none = Calibration(None, 0.01, 0, "none: no normal image was held out")
    rows = [*images(1, 1, 1), *images(0, 0, 1)]
    assert result(rows, none).outcome() == "no threshold, so no verdict on 2 defects, 1 good image"


def test_one_category_of_a_unified_run_alone() -> None:
    run = result([*images(1, 1, 1), *images(1, 2, 0, "wood")])
    assert run.outcome("wood").startswith("found 2 of 2 defects, at")
    assert run.outcome().startswith("found 3 of 4 defects, at")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "at a threshold for 1 false alarm in 100"),
        ({"false_alarm_rate": 0.05}, "at a threshold for 1 false alarm in 20"),
        ({"false_alarm_rate": 0.03}, "at a threshold for 3 false alarms in 100"),
        ({"count": 99}, "at a threshold for 1 false alarm in 100"),
        ({"count": 41}, "at a threshold for about 1 false alarm in 42 (1 false alarm in 100 was asked for)"),
        ({"chosen_by": "tail", "false_alarm_rate": 0.002}, "at a threshold from a fitted tail, for about 1 false alarm in 500"),
        ({"chosen_by": "costs", "false_alarm_rate": 0.125}, "at a threshold chosen by costs, for about 1 false alarm in 8"),
        ({"chosen_by": "value", "false_alarm_rate": 0.9}, "at a threshold that was given, for about 90 false alarms in 100"),
        ({"threshold": None, "count": 0}, ""),
    ],
)
def test_the_threshold_is_named_by_the_false_alarms_that_it_is_for(facts: dict[str, object], words: str) -> None:
    assert replace(HUNDRED, **facts).operating_point() == words  # type: ignore[arg-type]
