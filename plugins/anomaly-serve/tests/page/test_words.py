"""Numbers and changes in words."""

from __future__ import annotations

import math

import pytest

from anomaly_core import Calibration
from anomaly_serve.page.diary import entry
from anomaly_serve.page.render import environment, figure, moment
from anomaly_serve.page.words import oddness, place, reasons
from anomaly_serve.records import Change, Judgement


@pytest.mark.parametrize(
    ("above", "count", "words"),
    [
        (0, 200, "None of 200 normal images looks this odd."),
        (1, 200, "1 of 200 normal images looks at least this odd."),
        (150, 1200, "150 of 1,200 normal images look at least this odd."),
        (9, 9, "All 9 normal images look at least this odd."),
        (0, 1, "The one normal image does not look this odd."),
    ],
)
def test_a_p_value_in_words_counts_the_images_behind_it(above, count, words):
    calibration = Calibration(None, 0.05, count, "", scores=tuple(map(float, range(count)))).at_rate(0.05)
    score = count - above  # as great as the greatest `above` of 0, 1, ..., count - 1
    assert oddness(calibration.p_value(score), count) == words


def test_no_p_value_no_words():
    assert oddness(None, 10) == oddness(0.5, 0) == ""


def judgement(score, threshold, p_value=0.5):
    anomalous = None if threshold is None else score > threshold
    return Judgement("0" * 26, "bolt", 1, 0.0, "http", "", score, p_value, threshold, anomalous, (1, 1))


def test_reasons_tell_scores_apart_that_differ_little():
    assert reasons(judgement(0.50000012, 0.5), 0) == ["The score 0.50000012 is above the threshold 0.5."]
    assert reasons(judgement(0.5, 0.5), 0) == ["The score 0.5 is not above the threshold 0.5."]
    assert "no threshold, so there is no verdict" in reasons(judgement(3.0, None, None), 0)[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.0, "0"), (12.3456, "12.35"), (0.00123456, "0.001235"), (1234.5, "1,234"), (1e-7, "1.000e-07"),
        (-3.14159, "-3.142"), (1e9, "1.000e+09"), (math.nan, "not a number"), (205.1, "205.1"), (100.0, "100"),
    ],
)  # fmt: skip
def test_figures_have_four_digits(value, text):
    assert figure(value) == text


def test_regions_in_words():
    region = {"box": [2, 3, 12, 23], "area": 150.4, "area_mm2": None, "p_value": 1 / 100}
    assert place(region, 99) == "10 × 20 px at (2, 3), area 150 px: no normal image is this odd anywhere"
    assert place({**region, "p_value": 3 / 100, "area_mm2": 1.5}, 99).endswith(
        "area 1.5 mm²: 2 of 99 normal images are this odd somewhere"
    )
    assert place({**region, "p_value": None}, 99).endswith("area 150 px")


@pytest.mark.parametrize(
    ("action", "facts", "words"),
    [
        ("activate", {"version": 2, "from": 1}, "Version 2 judges instead of version 1"),
        ("activate", {"version": None, "from": 1}, "No version judges instead of version 1"),
        ("activate", {"version": 1, "from": None}, "Version 1 judges"),
        ("add version", {"version": 2, "parent": 1, "note": "x"}, "Version 2 was added, taught on from version 1"),
        ("mark", {"id": "A", "from": None, "to": "missed"}, "A verdict was said to be missed"),
        ("mark", {"id": "A", "from": "fine", "to": None}, "A verdict is no longer said to be fine"),
        (
            "settings",
            {"number": 3, "version": 1, "threshold": [0.5, 0.6], "least_area": [None, 40.0], "why": "x"},
            "Settings 3 of version 1: threshold 0.5 → 0.6, least area the detector's own → 40",
        ),
        ("reject", {"version": 1, "threshold": 0.5}, "Reject: version 1, threshold 0.5"),
        ("activate", {"other": 1}, "Activate: other 1"),
    ],
)
def test_changes_are_sentences(action, facts, words):
    assert entry(Change(0.0, "anna", "bolt", action, facts))["words"] == words


def test_times_do_not_depend_on_the_language():
    assert moment(1_700_000_000).split(",")[0].split()[1:] == ["Nov", "2023"]


def test_every_template_can_be_read():
    from importlib.resources import files

    for file in (files("anomaly_serve.page") / "templates").iterdir():
        environment().get_template(file.name)
