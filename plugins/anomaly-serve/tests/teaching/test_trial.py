"""What a trial says of cases, without a detector."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly_core import Calibration
from anomaly_serve.records import Judgement, Mark
from anomaly_serve.teaching.trial import Case, Trial, compared, is_defect

OLD = Calibration(2.0, 0.1, 0, "by hand", chosen_by="value")
NEW = Calibration(20.0, 0.1, 0, "by hand", chosen_by="value")


def case(key: str, is_defect: bool | None = None, *, learnt: bool = False, old: float | None = None) -> Case:
    return Case(key, key, Path(key), is_defect, learnt, old)


@pytest.mark.parametrize(
    ("mark", "alarm", "expected"),
    [
        (None, True, None),
        ("fine", True, False),
        ("missed", False, True),
        ("confirmed", True, True),
        ("confirmed", False, False),
        ("confirmed", None, None),
    ],
)
def test_to_confirm_says_what_the_verdict_says(mark: Mark | None, alarm: bool | None, expected: bool | None) -> None:
    verdict = Judgement("1", "disc", 1, 0.0, "http", "", 1.0, None, 2.0, alarm, (4, 4), mark=mark)
    assert is_defect(verdict) is expected


def test_what_was_learnt_proves_nothing() -> None:
    cases = [
        case("found", True),
        case("still missed", True, old=1.0),
        case("was missed", True, old=1.0),
        case("now fine", False, old=3.0),
        case("learnt", False, learnt=True, old=3.0),
        case("plain", old=1.0),
        case("broken", True),
    ]
    scores = {
        "found": 30.0,
        "still missed": 1.0,
        "was missed": 21.0,
        "now fine": 1.0,
        "learnt": 1.0,
        "plain": 25.0,
        "broken": None,
    }
    rows = compared(cases, scores, {"found": 3.0, "broken": None}, {"broken": "it is no image"}, NEW, OLD)
    trial = Trial("disc", 2, 1, 0.0, 20.0, 2.0, rows)
    assert Trial.from_dict(trial.to_dict()) == trial
    assert trial.summary() == {
        "images": 7,
        "changed": 4,
        "new_alarms": 2,
        "defects": 3,
        "found": 2,
        "found_before": 1,
        "fine": 1,
        "alarms": 0,
        "alarms_before": 1,
        "learnt": 1,
        "faults": 1,
    }
    assert (rows[-1].new, rows[-1].changes, rows[-1].fault) == (None, False, "it is no image")


def test_without_a_version_before_nothing_changes() -> None:
    rows = compared([case("a", old=None)], {"a": 30.0}, {}, {}, NEW, None)
    assert (rows[0].old, rows[0].new, rows[0].changes) == (None, True, False)
