"""Spreads and rank tests against independent references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from anomaly_benchmark import rank_test, spread


def test_spread_is_students_interval() -> None:
    values = [0.91, 0.95, 0.92, 0.97]
    interval = spread(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
    assert spread([0.9]).low is None
    agreeing = spread([0.9] * 3)
    assert (agreeing.std, agreeing.low, agreeing.high) == (0, None, None)


def test_the_interval_of_a_bounded_figure_stays_within_its_bounds() -> None:
    assert spread([0.98, 0.85]).high > 1  # Student's own
    for values in ([0.98, 0.85], [1.0, 0.9], [0.0, 0.1, 0.0], [1.0, 1.0, 0.0]):
        interval = spread(values, bounded=True)
        assert 0 <= interval.low < interval.mean < interval.high <= 1
    narrow, student = spread([0.501, 0.5, 0.499], bounded=True), spread([0.501, 0.5, 0.499])
    assert (narrow.low, narrow.high) == (pytest.approx(student.low, abs=1e-5), pytest.approx(student.high, abs=1e-5))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("mean", "std"), [(0.6, 0.05), (0.95, 0.02), (0.98, 0.01)])
def test_intervals_hold_the_true_mean_as_often_as_they_say(mean: float, std: float, seeds: int) -> None:
    size = mean * (1 - mean) / std**2 - 1
    drawn = np.random.default_rng(seeds).beta(mean * size, (1 - mean) * size, (2000, seeds))
    intervals = [spread(list(values), bounded=True) for values in drawn]
    held = np.mean([one.low <= mean <= one.high for one in intervals])
    assert held == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 2000) ** 0.5)


def test_friedman_and_nemenyi_find_the_one_that_differs() -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.7, 0.9, 12)
    values = {"best": base + 0.08, "middle": base + random.normal(0, 0.01, 12), "other": base + random.normal(0, 0.01, 12)}
    ranks = rank_test({name: list(v) for name, v in values.items()})
    assert ranks is not None
    assert ranks.p_value == pytest.approx(stats.friedmanchisquare(*values.values()).pvalue)
    assert ranks.mean_ranks["best"] == 1.0
    assert ranks.pairs["best", "middle"] < 0.05 < ranks.pairs["middle", "other"]
    # Demsar's table: the critical difference of 3 models on 12 data sets is 2.343 * sqrt(3 * 4 / (6 * 12))
    critical = 2.343 * (3 * 4 / (6 * 12)) ** 0.5
    for (a, b), p_value in ranks.pairs.items():
        assert (abs(ranks.mean_ranks[a] - ranks.mean_ranks[b]) > critical) == (p_value < 0.05)
    flipped = rank_test({name: list(v) for name, v in values.items()}, higher_is_better=False)
    assert flipped is not None
    assert flipped.mean_ranks["best"] == 3.0


def test_no_rank_test_where_none_can_tell() -> None:
    assert rank_test({"a": [0.9, 0.8]}) is None
    assert rank_test({"a": [0.9, 0.8], "b": [0.1, 0.2]}) is None
    alike = rank_test({"a": [0.9] * 6, "b": [0.9] * 6, "c": [0.9] * 6})
    assert alike is not None
    assert alike.p_value == 1.0
