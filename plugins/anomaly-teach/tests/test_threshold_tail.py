"""The fitted tail against distributions whose tail is known, and against the scores themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from anomaly_core import ConfigError
from anomaly_teach.threshold_tail import Tail


@pytest.mark.parametrize("truth", [stats.norm(), stats.gamma(3), stats.t(4)], ids=["normal", "gamma", "t"])
def test_the_intervals_cover_the_truth(truth: stats.rv_continuous) -> None:
    draw, rate, covered = np.random.default_rng(1), 0.0025, []
    for _ in range(5):
        fitted = Tail(truth.rvs(200, random_state=draw)).threshold(rate)
        (low, high), (lowest, highest) = fitted.rate_interval, fitted.value_interval
        assert low < fitted.rate < high and lowest < highest
        covered += [low <= truth.sf(fitted.value) <= high, lowest <= truth.isf(rate) <= highest]
    assert np.mean(covered) >= 0.7  # 95 % asked for, about 92 % in many draws


def test_the_fit_finds_the_curve_that_drew_the_scores() -> None:
    scores = stats.genpareto(0.2, scale=3).rvs(5_000, random_state=np.random.default_rng(0))
    tail = Tail(scores)
    assert len(tail.exceedances) == 500
    assert tail.shape == pytest.approx(0.2, abs=0.12)
    fitted = tail.threshold(1e-5)
    assert fitted.value_interval[0] < stats.genpareto(0.2, scale=3).isf(1e-5) < fitted.value_interval[1]


def test_fewer_alarms_need_a_higher_threshold() -> None:
    scores = np.random.default_rng(3).normal(size=100)
    fitted = [Tail(scores).threshold(rate) for rate in (0.0098, 0.005, 0.001, 0.0001)]
    values, rates = [one.value for one in fitted], [one.rate for one in fitted]
    assert values == sorted(values) and values[0] >= scores.max()
    assert rates == sorted(rates, reverse=True) and rates[0] <= 0.0098 and rates[-1] == pytest.approx(0.0001)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.arange(79.0), "needs 80 normal images, and there are 79"),
        (np.zeros(100), "few values have no such curve"),
        (np.repeat(np.arange(20.0), 10), "few values have no such curve"),
    ],
)
def test_what_has_no_tail_is_refused(scores: np.ndarray, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Tail(scores)
