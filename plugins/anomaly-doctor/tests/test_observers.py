"""Observers add to what the doctor says; one that fails is a note."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("tiny")


def test_doctor_takes_what_an_observer_adds(diary: Any, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    def examine(report: Any) -> None:
        report.sections["cameras"] = {"line 1": "found"}
        report.notes.append("the camera of line 2 is off.")

    diary.WORK["anomaly_doctor"] = examine
    report = json.loads(anomaly("doctor", "--json", "--output", tmp_path).out)
    assert report["sections"]["cameras"] == {"line 1": "found"}
    assert "the camera of line 2 is off." in report["notes"]
    diary.WORK["anomaly_doctor"] = lambda report: report.problems.append("no camera is found.")
    done = anomaly("doctor", "--output", tmp_path)
    assert done.code == 1 and "no camera is found." in done.out


def test_an_observer_that_fails_in_the_doctor_is_a_note(diary: Any, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    def fail(**_: Any) -> None:
        raise ValueError("out of ink")

    diary.WORK["anomaly_doctor"] = fail
    done = anomaly("doctor", "--output", tmp_path)
    assert done.code == 0 and done.out.count("out of ink") == 1
