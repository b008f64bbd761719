"""The split-conformal threshold, its promise and its warnings."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from scipy import stats

from anomaly_core import AnomalyError, Calibration, ConfigError
from anomaly_core.run.calibration import calibrate


def shuffled(count: int) -> torch.Tensor:
    """The scores 1..count in another order."""
    return (torch.randperm(count, generator=torch.Generator().manual_seed(0)) + 1).float()


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [
        (99, 0.01, 99),
        (199, 0.01, 198),
        (200, 0.01, 199),  # 201 * 0.99 = 198.99
        (9, 0.1, 9),
        (19, 0.1, 18),
        (9, 0.7, 3),  # in floating point 10 * (1 - 0.7) is above 3
        (1999, 0.001, 1998),
    ],
)
def test_rank_of_the_threshold(count, rate, rank):
    calibration = calibrate(shuffled(count), false_alarm_rate=rate)
    assert calibration.threshold == rank
    assert calibration.warning is None
    assert calibration.count == count
    assert calibration.source == f"{count} held-out normal images"
    assert calibration.scores == tuple(range(1, count + 1))


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.1, 9), (0.05, 19), (0.03, 33), (0.001, 999)])
def test_too_few_images_take_the_maximum_and_say_how_many_are_needed(rate, needed):
    assert calibrate(shuffled(needed), false_alarm_rate=rate).warning is None
    calibration = calibrate(shuffled(needed - 1), false_alarm_rate=rate)
    assert calibration.threshold == needed - 1
    assert calibration.warning is not None
    assert f"{needed - 1} held-out normal images" in calibration.warning
    assert f"rate of {rate:g}" in calibration.warning
    assert f"needs {needed} images" in calibration.warning
    assert Calibration.images_for(rate) == needed
    assert calibration.warning == (
        f"{calibration.shortfall()}: raise data.holdout, add normal images, or raise base.false_alarm_rate."
    )
    assert "data." not in calibration.shortfall() and "base." not in calibration.shortfall()


def test_nothing_is_short_without_scores_or_where_no_rate_chose_the_threshold():
    short = calibrate(shuffled(20), false_alarm_rate=0.001)
    assert short.shortfall()
    assert calibrate(shuffled(20), false_alarm_rate=0.05).shortfall() == ""
    assert short.with_threshold(15.0).shortfall() == ""
    assert calibrate(torch.empty(0), false_alarm_rate=0.001).shortfall() == ""
    assert (
        dataclasses.replace(short, count=0, scores=(), map_maxima=()).shortfall() == ""
    )  # a threshold whose scores are not known


def test_no_images_no_threshold():
    calibration = calibrate(torch.empty(0), false_alarm_rate=0.01)
    assert calibration.threshold is None
    assert calibration.source == "none: no normal image was held out (add some; data.holdout above 0)"
    assert calibration.is_anomalous(1e9) is None
    assert calibration.p_value(1e9) == 1


def test_false_alarms_stay_below_the_rate():
    generator = torch.Generator().manual_seed(1)
    alarms = []
    for _ in range(300):
        scores = torch.randn(120, generator=generator).exp()
        calibration = calibrate(scores[:60], false_alarm_rate=0.1)
        alarms += [calibration.is_anomalous(score) for score in scores[60:].tolist()]
    assert 0.08 < sum(alarms) / len(alarms) <= 0.1


def test_the_threshold_itself_is_normal():
    calibration = calibrate(shuffled(99), false_alarm_rate=0.1)
    assert calibration.threshold == 90
    assert calibration.is_anomalous(90.0) is False
    assert calibration.is_anomalous(90.001) is True


def test_p_value_counts_ties_and_matches_the_threshold():
    calibration = calibrate(torch.tensor([1.0, 2.0, 2.0, 3.0]), false_alarm_rate=0.5)
    assert [calibration.p_value(score) for score in (0.0, 1.0, 2.0, 2.5, 3.0, 4.0)] == [1.0, 1.0, 0.8, 0.4, 0.4, 0.2]
    calibration = calibrate(shuffled(99), false_alarm_rate=0.1)
    for score in (89.0, 90.0, 90.5, 91.0, 99.0):
        assert calibration.is_anomalous(score) == (calibration.p_value(score) <= 0.1)


def test_scale_of_the_maps():
    maxima, medians = shuffled(99) * 10, torch.linspace(0, 1, 99)
    calibration = calibrate(shuffled(99), maxima, medians, false_alarm_rate=0.1)
    assert calibration.map_threshold == 900
    assert calibration.map_low == 0.5
    assert calibrate(shuffled(99), false_alarm_rate=0.1).map_threshold is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_damaged_scores_and_maps(bad):
    good, damaged = torch.ones(3), torch.tensor([1.0, bad, 2.0])
    with pytest.raises(AnomalyError, match="the scores of 1 of 3"):
        calibrate(damaged, false_alarm_rate=0.1)
    with pytest.raises(AnomalyError, match="the maps of 1 of 3"):
        calibrate(good, damaged, good, false_alarm_rate=0.1)


def test_survives_json_without_loss():
    scores = torch.rand(20, generator=torch.Generator().manual_seed(2)) / 3
    calibration = calibrate(scores, scores * 2, scores / 2, false_alarm_rate=0.01)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict(), allow_nan=False))) == calibration
    assert calibration.warning
    empty = calibrate(torch.empty(0), false_alarm_rate=0.01)
    assert Calibration.from_dict(json.loads(json.dumps(empty.to_dict()))) == empty


def test_map_p_value_counts_normal_images_with_as_high_a_peak():
    scores = torch.tensor([1.0, 2.0, 3.0])
    calibration = calibrate(scores, torch.tensor([5.0, 9.0, 7.0]), scores, false_alarm_rate=0.1)
    assert calibration.map_maxima == (5.0, 7.0, 9.0)
    assert [calibration.map_p_value(peak) for peak in (4.0, 5.0, 8.0, 9.5)] == [1.0, 1.0, 0.5, 0.25]
    assert calibrate(scores, false_alarm_rate=0.1).map_p_value(9.0) is None
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_damaged_files_and_frozen_values():
    values = calibrate(shuffled(9), false_alarm_rate=0.1).to_dict()
    for key, wrong in [
        ("colour", 1),
        ("threshold", None),
        ("threshold", "0.5"),
        ("threshold", True),
        ("threshold", float("nan")),
        ("map_threshold", float("inf")),
        ("false_alarm_rate", 0.0),
        ("false_alarm_rate", 1.5),
        ("count", -1),
        ("count", 8),
        ("count", 9.5),
        ("source", None),
        ("scores", values["scores"][::-1]),
        ("scores", values["scores"][1:]),
        ("scores", [*values["scores"][:-1], float("nan")]),
        ("scores", "012345678"),
        ("map_maxima", [1.0]),
        ("map_maxima", values["scores"][::-1]),
        ("map_maxima", [*values["scores"][:-1], float("inf")]),
    ]:
        with pytest.raises(ValueError, match=rf"(?s){key}|scores"):
            Calibration.from_dict({**values, key: wrong})
    for key in values:
        if key not in ("warning", "map_low", "map_threshold", "map_maxima", "scored_by", "chosen_by", "interval"):
            with pytest.raises(ValueError, match=rf"(?s){key}|scores"):
                Calibration.from_dict({other: value for other, value in values.items() if other != key})
    for other in (None, [], "text", 3):
        with pytest.raises(ValueError, match="Input should be"):
            Calibration.from_dict(other)
    with pytest.raises(dataclasses.FrozenInstanceError):
        calibrate(shuffled(9), false_alarm_rate=0.1).threshold = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(("count", "rate"), [(20, 0.001), (20, 0.1), (99, 0.01), (400, 0.01)])
def test_the_interval_of_the_false_alarm_rate_holds_what_thresholds_really_do(count, rate):
    """Thresholds of many draws of held-out uniform scores: the true rate of each is 1 - threshold."""
    random = torch.rand(4000, count, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    true_rates = torch.tensor([1 - (calibrate(row, false_alarm_rate=rate).threshold or 0) for row in random[:1000]])
    low, high = calibrate(random[0], false_alarm_rate=rate).false_alarm_interval() or (0, 0)
    inside = ((true_rates >= low) & (true_rates <= high)).double().mean()
    assert inside == pytest.approx(0.95, abs=0.025)


def test_twenty_images_are_said_to_be_too_few_for_one_in_a_thousand():
    calibration = calibrate(shuffled(20), false_alarm_rate=0.001)
    assert "20 held-out normal images cannot support a false-alarm rate of 0.001" in (calibration.warning or "")
    assert calibration.promise() == "false alarms: 0.1 % asked for, 0.13 to 17 % with 95 % confidence"
    assert calibrate(torch.empty(0), false_alarm_rate=0.001).promise() == ""


def test_a_score_that_is_no_number_is_no_verdict() -> None:
    calibration = Calibration(1.0, 0.01, 3, "test", scores=(0.1, 0.5, 1.0))
    assert calibration.is_anomalous(float("nan")) is None
    assert calibration.is_anomalous(float("inf")) is None
    assert calibration.is_anomalous(float("-inf")) is None


def test_a_threshold_set_by_hand_has_the_interval_of_the_scores_above_it() -> None:
    calibration = calibrate(torch.arange(1.0, 101), torch.arange(101.0, 201), false_alarm_rate=0.05)
    changed = calibration.with_threshold(93.5)
    assert (changed.false_alarm_rate, changed.map_threshold, changed.chosen_by) == (8 / 102, 193.0, "value")
    assert changed.false_alarm_interval() == pytest.approx(tuple(stats.binomtest(7, 100).proportion_ci(0.95)))
    assert changed.promise() == "false alarms: about 7.84 %, 2.9 to 14 % with 95 % confidence"
    assert Calibration.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
    assert changed.at_rate(0.05) == calibration
    tail = calibration.with_threshold(130, chosen_by="tail", false_alarm_rate=0.001, interval=(0.0, 0.02))
    assert tail.promise() == (
        "false alarms: about 0.1 %, an extrapolation beyond the 100 images, 0 to 2 % with 95 % confidence"
    )
    assert Calibration.from_dict(json.loads(json.dumps(tail.to_dict()))) == tail
    everything = calibration.with_threshold(0)
    assert everything.false_alarm_interval() == (pytest.approx(0.9637833), 1.0) and everything.map_threshold == 196.0
    with pytest.raises(ConfigError, match="separates nothing"):
        calibration.with_threshold(math.nan)
