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
