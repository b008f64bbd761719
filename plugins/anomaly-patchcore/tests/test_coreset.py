"""Greedy k-center against the golden run, a plain float64 version, and its edge cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anomaly_core.errors import ConfigError, DataError
from anomaly_patchcore.coreset import k_center_greedy, k_center_greedy_with_radius


def plain(points: Tensor, count: int, first: int) -> list[int]:
    """The definition, in float64."""
    points = points.double()
    picked = [first]
    while len(picked) < count:
        picked.append(int(torch.cdist(points, points[picked]).min(dim=1).values.argmax()))
    return picked


def radius(points: Tensor, picked: Tensor) -> float:
    return float(torch.cdist(points.double(), points[picked].double()).min(dim=1).values.max())


def test_golden(kcenter: dict[str, Tensor]) -> None:
    points, expected = kcenter["points"], kcenter["selected"]
    picked, reported = k_center_greedy_with_radius(points, len(expected), int(kcenter["first"]))
    assert picked.dtype == torch.long
    assert len(set(picked.tolist()) & set(expected.tolist())) >= 0.99 * len(expected)
    assert radius(points, picked) == pytest.approx(float(kcenter["radius"]), rel=1e-5)
    assert reported == pytest.approx(float(kcenter["radius"]), rel=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1000.0], ids=["centred", "far from the origin"])
def test_same_order_as_the_definition(offset: float) -> None:
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(1)) + offset
    assert k_center_greedy(points, 40, first=7).tolist() == plain(points, 40, 7)


def test_distinct_points_come_first() -> None:
    distinct = torch.randn(12, 64, generator=torch.Generator().manual_seed(2)) * 100
    distinct[1] = distinct[0] + 1e-3  # closer than the rounding of the norms
    points = distinct.repeat(4, 1)[torch.randperm(48, generator=torch.Generator().manual_seed(3))]
    picked = k_center_greedy(points, 48)
    assert len(points[picked[:12]].unique(dim=0)) == 12
    assert sorted(picked.tolist()) == list(range(48))


def test_identical_points() -> None:
    picked, reached = k_center_greedy_with_radius(torch.ones(5, 3), 4, first=2)
    assert picked[0] == 2
    assert len(set(picked.tolist())) == 4
    assert reached == 0


def test_one_and_all() -> None:
    points = torch.rand(6, 2, dtype=torch.float64)
    assert k_center_greedy(points, 1, first=3).tolist() == [3]
    assert sorted(k_center_greedy(points, 6).tolist()) == list(range(6))


@pytest.mark.parametrize("count", [0, -1, 11])
def test_bad_count(count: int) -> None:
    with pytest.raises(ConfigError, match=f"count={count}"):
        k_center_greedy(torch.rand(10, 2), count)


def test_bad_first_and_shape() -> None:
    with pytest.raises(ConfigError, match="first=10"):
        k_center_greedy(torch.rand(10, 2), 1, first=10)
    with pytest.raises(ConfigError, match=r"\(N, D\)"):
        k_center_greedy(torch.rand(10), 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_not_finite(value: float) -> None:
    points = torch.rand(10, 2)
    points[4, 1] = value
    with pytest.raises(DataError, match="index 4"):
        k_center_greedy(points, 3)
