"""Bets are fair, stay fair with the defects that are allowed, and pay when ranks are not uniform."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_drift.evidence import Alarms, Evidence

ALL = ("up", "down", "spread")


def expectation(defects: float, share: float, rank: float) -> float:
    """The greatest expectation of a bet where a share of the images has this rank and the others uniform ones."""
    grid = (np.arange(500) + 0.5) / 500

    def bets(value: float) -> np.ndarray:
        evidence = Evidence(1, defects, [ALL])
        evidence.add(np.array([value]), 1)  # R = (0 + 1) bet
        return evidence.sums[0]

    mean = np.mean([bets(value) for value in grid], axis=0)
    return float(((1 - share) * mean + share * bets(rank)).max())


def test_a_bet_is_expected_to_be_one() -> None:
    assert expectation(0.0, 0.0, 0.5) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("rank", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_it_is_no_more_with_the_defects_that_are_allowed(rank: float) -> None:
    assert expectation(0.1, 0.1, rank) < 1.01
    assert expectation(0.0, 0.1, 0.0) > 1.5  # which is what the allowance is for


@pytest.mark.parametrize(("way", "low", "high"), [("up", 0.8, 1.0), ("down", 0.0, 0.2)])
def test_ranks_at_one_end_pay_and_tell_since_when(way: str, low: float, high: float) -> None:
    random, evidence = np.random.default_rng(1), Evidence(2, 0.1, [ALL, ALL])
    for number in range(1, 101):
        evidence.add(random.random(2), number)
    quiet = evidence.total()
    for number in range(101, 126):
        evidence.add(np.array([random.uniform(low, high), random.random()]), number)
    assert quiet.max() < 1e4 < 1e6 < evidence.total()[0] and evidence.total()[1] < 1e4
    assert evidence.way(0) == way and 95 <= evidence.start(0) <= 101


def test_ranks_at_both_ends_pay_too() -> None:
    random, evidence = np.random.default_rng(1), Evidence(1, 0.1, [ALL])
    for number in range(60):
        evidence.add(np.array([random.choice([0.03, 0.97])]), number)
    assert evidence.total()[0] > 1e6 and evidence.way(0) == "spread"


def test_a_series_without_a_rank_waits() -> None:
    evidence = Evidence(1, 0.1, [ALL])
    evidence.add(np.array([0.9]), 1)
    before = evidence.total()[0]
    evidence.add(np.array([np.nan]), 2)
    assert evidence.total()[0] == before


def test_more_alarms_are_told_and_a_steady_share_is_not() -> None:
    random = np.random.default_rng(2)
    for base in (0.0, 0.04, 0.3):
        alarms = Alarms(0.01)
        quiet = max(alarms.add(random.random() < base, random.random(), number) for number in range(1000))
        assert quiet < 1e4
        loud = max(alarms.add(random.random() < base + 0.3, random.random(), number) for number in range(1000, 1100))
        assert loud > 1e5 and 985 <= alarms.start() <= 1020


def test_the_bet_on_alarms_is_fair() -> None:
    random, ends = np.random.default_rng(3), []
    for _ in range(4000):
        alarms, share = Alarms(0.0), random.choice([0.05, 0.5])
        for number in range(3):
            total = alarms.add(random.random() < share, random.random(), number)
        ends.append(total)
    assert np.mean(ends) == pytest.approx(3, abs=0.35)  # R is expected to be t; 3.5 standard errors


def test_states_go_on() -> None:
    random = np.random.default_rng(4)
    evidence, alarms = Evidence(2, 0.1, [ALL, ("down",)]), Alarms(0.01)
    for number in range(50):
        evidence.add(random.random(2), number)
        alarms.add(random.random() < 0.2, random.random(), number)
    again, other = Evidence(2, 0.1, [ALL, ("down",)]), Alarms.restore(alarms.state())
    again.load(evidence.state())
    ranks = random.random(2)
    assert (again.add(ranks, 51) == evidence.add(ranks, 51)).all() and other.add(True, 0.3, 51) == alarms.add(True, 0.3, 51)
