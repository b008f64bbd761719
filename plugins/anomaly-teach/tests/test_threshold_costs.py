"""The threshold of least cost, against all thresholds that there are; and the images that choose it."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_teach.threshold_costs import Costs, drawn


@pytest.mark.parametrize("costs", [Costs(100, 1, 0.01), Costs(1, 5, 0.3), Costs(1000, 1, 0.5), Costs(1, 1000, 0.01)])
@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_costs_less(costs: Costs, seed: int) -> None:
    draw = np.random.default_rng(seed)
    normal, anomalous = draw.normal(0, 1, 40).round(1), draw.normal(1.5, 1, 25).round(1)
    value, cost = costs.best(normal, anomalous)
    assert cost == pytest.approx(costs.expected(value, normal, anomalous))
    everywhere = [costs.expected(one, normal, anomalous) for one in np.linspace(-6, 6, 2001)]
    assert cost == pytest.approx(min(everywhere))


def test_of_equal_costs_the_middle_of_the_gap_is_taken() -> None:
    assert Costs(100, 1, 0.01).best([1.0, 2.0], [4.0, 5.0]) == (3.0, 0.0)


def test_where_a_miss_costs_all_every_image_is_anomalous() -> None:
    value, cost = Costs(1e6, 1, 0.1).best([1.0, 2.0, 3.0], [0.5, 2.5])
    assert value < 0.5 and cost == pytest.approx(0.9)


def test_every_kind_of_defect_gives_its_share() -> None:
    kinds = ["a"] * 10 + ["b"] * 4 + ["c"] * 2
    chosen = drawn(list(range(16)), kinds, 0.5, seed=0)
    assert [sum(kinds[one] == kind for one in chosen) for kind in "abc"] == [5, 2, 1]
    assert chosen == drawn(list(range(16)), kinds, 0.5, seed=0) != drawn(list(range(16)), kinds, 0.5, seed=1)
    assert len(drawn(list(range(6)), list("abcdef"), 0.5, seed=0)) == 3  # of kinds with one image each
