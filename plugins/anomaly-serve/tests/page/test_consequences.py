"""What a threshold would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly_core import Calibration
from anomaly_serve.page import consequences as what
from anomaly_serve.records import Judgement

NORMALS = tuple(np.linspace(0.0, 1.0, 199).tolist())
CALIBRATION = Calibration(None, 0.05, 199, "199 normal images", scores=NORMALS).at_rate(0.05)


def verdict(score, areas=()):
    regions = tuple({"area": area} for area in areas)
    return Judgement(f"{score}", "bolt", 1, 0.0, "http", "", score, None, 1.0, False, (1, 1), regions)


def recent(scores, seen=()):
    return what.Recent(tuple(sorted(scores)), tuple(seen), 7)


def test_a_choice_is_a_value_or_a_rate():
    assert what.chosen(CALIBRATION, value=CALIBRATION.threshold) is CALIBRATION
    assert what.chosen(CALIBRATION, value=0.7).chosen_by == "value"
    assert what.chosen(CALIBRATION, rate=0.01) == CALIBRATION.at_rate(0.01)
    empty = Calibration(None, 0.05, 0, "none")
    assert what.chosen(empty, value=3.0).threshold == 3.0
    for options in ({}, {"rate": 0.0}, {"rate": 1.0}):
        with pytest.raises(ValueError, match="Give"):
            what.chosen(CALIBRATION, **options)
    with pytest.raises(ValueError, match="no scores of normal images"):
        what.chosen(empty, rate=0.01)


def test_expected_and_observed_alarms_in_1000():
    assert what.expected(CALIBRATION)["number"] == "50"
    low, high = (float(f"{1000 * rate:.2g}") for rate in CALIBRATION.false_alarm_interval())
    assert what.expected(CALIBRATION)["words"] == (
        f"in 1,000 normal images; {low:g} to {high:g} with 95 % confidence, by 199 normal images"
    )
    assert what.expected(what.chosen(Calibration(None, 0.05, 0, "none"), value=1.0))["number"] == "–"
    days = recent([0.1] * 297 + [2.0] * 3)
    assert what.observed(days, 1.0) == {
        "number": "10",
        "words": "in 1,000 images: 3 of 300 of the last 7 days, true defects among them",
    }
    assert what.observed(days, 2.0)["number"] == "0"  # a score that is the threshold is normal
    assert what.observed(recent([]), 1.0)["number"] == "–"


def test_a_warning_names_a_step_of_the_page_whoever_chose_the_threshold():
    short = CALIBRATION.at_rate(0.001)
    words = "cannot support a false-alarm rate of 0.001: the threshold is their greatest score, good for about 0.005. "
    words += "That rate needs 999 images: add images of good parts under Teach, or allow more false alarms under Set."
    assert what.expected(short)["warning"] == f"199 held-out normal images {words}"
    assert what.warning(replace(short, warning="or an extrapolation: --tail.")) == what.expected(short)["warning"]
    assert what.warning(CALIBRATION) == what.warning(short.with_threshold(0.7)) == ""
    assert what.warning(short.with_threshold(9.0, chosen_by="tail", warning="extrapolated")) == "extrapolated"


def test_how_many_verdicts_would_change():
    days = recent([0.1, 0.2, 0.3, 0.4])
    assert what.changed(days, 0.25, 0.35) == "1 image of these days would have been called normal."
    assert what.changed(days, 0.25, 0.05) == "2 images of these days more would have raised an alarm."
    assert what.changed(days, 0.25, 0.26) == "No verdict of these days would have been another."
    assert what.changed(days, None, 0.26) == ""


def test_neighbours_are_the_nearest_on_both_sides():
    seen = [verdict(score) for score in np.random.default_rng(0).permutation(np.arange(40)).tolist()]
    above, below = what.neighbours(recent([], seen), 20)
    assert [one.score for one in above] == [21, 22, 23, 24, 25, 26] and [one.score for one in below] == [20, 19, 18, 17, 16, 15]


def test_regions_on_both_sides_of_the_least_area():
    seen = [verdict(1, (5.0, 50.0)), verdict(2, (20.0,)), verdict(3)]
    found = what.regions_by_area(recent([], seen), 20.0)
    assert (found["count"], found["of"], found["images"]) == (2, 3, 3)
    assert [(one.score, area, number) for one, area, number in found["kept"]] == [(2, 20.0, 0), (1, 50.0, 1)]
    assert [(one.score, area, number) for one, area, number in found["left"]] == [(1, 5.0, 0)]


def test_the_histogram_counts_every_score_once():
    scores = [*np.random.default_rng(0).uniform(0, 1, 500).tolist(), 40.0, 50.0]
    found = what.histogram(CALIBRATION, recent(scores))
    assert sum(found["normals"]) == 199 and sum(found["images"]) == 500 and found["beyond"] == 2
    assert found["low"] <= 0.01 and 1 < found["high"] < 3 and len(found["images"]) == what.BINS
    for none in (Calibration(None, 0.05, 0, "none"), Calibration(2.0, 0.5, 1, "one", scores=(2.0,))):
        found = what.histogram(none, recent([2.0] * none.count))
        assert found["low"] < found["high"] and sum(found["images"]) == none.count


def test_the_last_days_are_read_once_while_the_slider_moves():
    class Store:
        asked = 0

        def scores(self, product, version, since, limit):
            self.asked += 1
            return [(0.0, 2.0, None, None), (1.0, 1.0, None, None)]

        def judgements(self, product, **filters):
            return [verdict(1.0)]

    store = Store()
    scores = what.RecentScores(store)
    assert scores.of("bolt", 1, 7).scores == (1.0, 2.0) and scores.of("bolt", 1, 7).above(1.0) == 1
    assert store.asked == 1 and scores.of("bolt", 1, 3).days == 3 and store.asked == 2
