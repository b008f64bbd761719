"""Ranks of exchangeable values are uniform and independent, ties and small references included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from anomaly_core import Calibration
from anomaly_drift.ranks import Ranks, place_of


def drawn(kind: str, random: np.random.Generator, count: int) -> list[float]:
    """Continuous values, or few that repeat."""
    return (random.standard_normal(count) if kind == "continuous" else random.integers(0, 4, count)).tolist()


@pytest.mark.parametrize("kind", ["continuous", "ties"])
@pytest.mark.parametrize("reference", [0, 5, 50])
def test_ranks_are_uniform_and_independent(kind: str, reference: int) -> None:
    random, first, second = np.random.default_rng(3), [], []
    for _ in range(1500):
        ranks = Ranks.of(drawn(kind, random, reference))
        one, two = (ranks.next(value, random.random()) for value in drawn(kind, random, 2))
        first, second = [*first, one], [*second, two]
    assert stats.kstest(first, "uniform").pvalue > 1e-3 and stats.kstest(second, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(first, second).statistic) < 0.09  # 3.5 standard errors


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("count", [5, 50, 450])
def test_so_are_those_of_p_values_of_a_finite_calibration(count: int, alone: bool) -> None:
    random, found = np.random.default_rng(4), []
    for _ in range(300):
        scores = tuple(np.sort(random.standard_normal(count)).tolist())
        calibration = Calibration(0.0, 0.1, count, "", scores=scores)
        ranks = Ranks.of_p_values(calibration, alone=alone)
        values = [calibration.p_value(score) for score in random.standard_normal(6).tolist()]
        found.append([ranks.next(place_of(value, count), random.random()) for value in values])
    columns = np.array(found).T
    assert all(stats.kstest(column, "uniform").pvalue > 1e-4 for column in columns)
    assert np.abs(np.corrcoef(columns) - np.eye(6)).max() < 0.25  # 4.3 standard errors, of 15 pairs
    assert Ranks.of_p_values(calibration).total == count + 1


def test_ranks_among_a_fixed_reference_would_not_be_independent(line: Callable[..., Any]) -> None:
    """What the ranks are for: p-values of one stream share the luck of a small calibration."""
    random, means = np.random.default_rng(5), []
    for _ in range(200):
        calibration = Calibration(0.0, 0.1, 20, "", scores=tuple(np.sort(random.standard_normal(20)).tolist()))
        means.append(np.mean([calibration.p_value(score) for score in random.standard_normal(100).tolist()]))
    assert np.std(means) > 1.5 * np.sqrt(1 / 12 / 100)


def test_tied_scores_are_one_place() -> None:
    calibration = Calibration(1.0, 0.1, 4, "", scores=(1.0, 1.0, 1.0, 2.0))
    ranks = Ranks.of_p_values(calibration)
    assert ranks.mass.sum() == 5 and sorted(ranks.mass[ranks.mass > 0].tolist()) == [1, 1, 3]
    assert ranks.next(place_of(calibration.p_value(1.0), 4), 0.5) == pytest.approx((2 + 0.5 * 3) / 5)
    assert ranks.next(place_of(calibration.p_value(3.0), 4), 0.5) == pytest.approx(0.5 / 6)


def test_a_state_goes_on(line: Callable[..., Any]) -> None:
    random = np.random.default_rng(6)
    ranks = Ranks.of(random.random(30).tolist())
    again = Ranks.restore(ranks.state())
    for value, uniform in random.random((20, 2)).tolist():
        assert ranks.next(value, uniform) == again.next(value, uniform)
