"""Greedy k-center against the golden run, a plain float64 version, and its edge cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomaly_core import ConfigError, DataError
from anomaly_patchcore import farthest, vicinity
from anomaly_patchcore.coreset import k_center_greedy, k_center_greedy_with_radius


def plain(points: Tensor, count: int, first: int) -> list[int]:
    """The definition: one pass over all points a pick, differences in float64."""
    points = points.double()
    nearest = torch.full((len(points),), torch.inf, dtype=torch.float64)
    picked = [first]
    while True:
        nearest = torch.minimum(nearest, (points - points[picked[-1]]).square().sum(dim=1))
        nearest[picked[-1]] = -1
        if len(picked) == count:
            return picked
        picked.append(int(nearest.argmax()))


def radius(points: Tensor, picked: Tensor | list[int]) -> float:
    """By differences, in float64."""
    points = points.double()
    distances = torch.cdist(points, points[picked], compute_mode="donot_use_mm_for_euclid_dist")
    return float(distances.min(dim=1).values.max())


def test_golden(kcenter: dict[str, Tensor]) -> None:
    points, expected = kcenter["points"], kcenter["selected"]
    picked, reported = k_center_greedy_with_radius(points, len(expected), int(kcenter["first"]))
    assert picked.dtype == torch.long
    assert len(set(picked.tolist()) & set(expected.tolist())) >= 0.99 * len(expected)
    assert radius(points, picked) == pytest.approx(float(kcenter["radius"]), rel=1e-5)
    assert reported == pytest.approx(float(kcenter["radius"]), rel=1e-5)


def cloud(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(300, 6, generator=generator)
    centres = 1000 * torch.randn(20, 6, generator=generator)
    return {
        "plain": points,
        "far from the origin": points + 1e5,
        "low rank": points[:, :2] @ torch.randn(2, 40, generator=generator) + 1e-4 * torch.randn(300, 40, generator=generator),
        "clusters": centres[torch.arange(300) % 20] + 0.01 * points,
        "clusters in float64, closer than products can tell": centres[torch.arange(300) % 20].double() + 1e-7 * points.double(),
        "copies": points[torch.randint(60, (300,), generator=generator)],
        "copies and neighbours of copies": torch.cat([points[:60], points[:60] + 1e-6, points[:60]]).repeat(2, 1),
        "a grid, full of ties": torch.randint(4, (300, 3), generator=generator).float() + 0.5,
        "one-dimensional": points[:, :1],
        "an outlier of other copies": torch.cat([points[:200], torch.full((2, 6), 1e6), points[:100] * 1e-3]),
        "half precision": points.half(),
        "heavy tails": points / torch.rand(300, 1, generator=generator) ** 4,
    }[kind]


KINDS = """plain; far from the origin; low rank; clusters; clusters in float64, closer than products can tell; copies;
copies and neighbours of copies; a grid, full of ties; one-dimensional; an outlier of other copies; half precision;
heavy tails"""


@pytest.mark.parametrize("sizes", [(24, 8, 1), (24, 8, 1000), (4096, 256, 1000)], ids=["vicinity", "small pool", "one pool"])
@pytest.mark.parametrize("kind", " ".join(KINDS.split()).split("; "))
def test_the_picks_of_the_plain_loop_in_its_order(
    kind: str, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farthest, "POOL", sizes[0])
    monkeypatch.setattr(farthest, "MANY", sizes[2])
    monkeypatch.setattr(farthest, "WAITING", 2)
    monkeypatch.setattr(vicinity, "COUNT", 5)
    monkeypatch.setattr(farthest, "BLOCK", sizes[1])
    monkeypatch.setattr(farthest, "CELLS", 64 * sizes[1])
    monkeypatch.setattr(farthest, "FRONT", 3)
    points = cloud(kind)
    for count in (2, 120):
        picked, reached = k_center_greedy_with_radius(points, count, first=7)
        expected = plain(points, count, 7)
        assert picked.tolist() == expected
        assert reached == pytest.approx(radius(points, expected), rel=1e-9, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31), rows=st.integers(1, 150), columns=st.integers(1, 8), levels=st.integers(1, 6), data=st.data()
)
def test_any_points(seed: int, rows: int, columns: int, levels: int, data: st.DataObject) -> None:
    """Clusters, copies and ties of all sizes: as many distinct values as ``levels`` a column, some of them shaken."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(levels, (rows, columns), generator=generator).float()
    shaken = torch.rand(rows, 1, generator=generator) < 0.5
    points += shaken * 10.0 ** -data.draw(st.integers(0, 6)) * torch.randn(rows, columns, generator=generator)
    count, first = data.draw(st.integers(1, rows)), data.draw(st.integers(0, rows - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(farthest, "POOL", 10)
        patch.setattr(farthest, "BLOCK", 3)
        patch.setattr(farthest, "FRONT", data.draw(st.integers(1, 3)))
        patch.setattr(farthest, "MANY", data.draw(st.sampled_from([1, 1000])))
        patch.setattr(farthest, "WAITING", data.draw(st.integers(1, 3)))
        patch.setattr(farthest, "FEW", data.draw(st.sampled_from([1, 1024])))
        assert k_center_greedy(points, count, first).tolist() == plain(points, count, first)


@pytest.mark.parametrize("factor", [1e-150, 1e-42, 1e-30, 1e18, 1e37, 1e140])
def test_tiny_and_huge_values(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their squares leave the range of float32; the picks are those of the plain loop in float64."""
    monkeypatch.setattr(farthest, "MANY", 1)
    monkeypatch.setattr(farthest, "WAITING", 2)
    points = cloud("plain").double() * factor
    if 1e-45 < factor < 1e38:
        points = points.float()
    assert k_center_greedy(points, 100, first=7).tolist() == plain(points, 100, 7)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("kind", ["plain", "low rank", "heavy tails", "half precision", "an outlier of other copies"])
def test_products_in_float32_are_upper_bounds(kind: str, precision: str) -> None:
    """The proof of the picks, and close enough to leave few points to float64."""
    points, before = cloud(kind), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        search = farthest.FarthestFirst(points, 0, 40)
        search._add(list(range(0, 300, 10)))
        bounds = search._at_most(search._rounded(torch.arange(len(points))), 0, 30)
        true = torch.cdist(points.double(), points[0:300:10].double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        norms = (points.double() - search.origin).square().sum(dim=1)
    finally:
        torch.set_float32_matmul_precision(before)
    slack = (search.margin - 1) * 2.1 * (norms[:, None] + norms[0:300:10])
    assert (bounds >= true.amin(dim=1)).all()
    assert (bounds <= (true + slack).amin(dim=1) + 1e-12).all()


def test_progress_is_told_of_each_pick() -> None:
    told: list[object] = []

    def progress(items: Iterable[object], description: str, total: int | None = None) -> Iterator[object]:
        told.append((description, total))
        for item in items:
            told.append(item)
            yield item

    picked = k_center_greedy(cloud("plain"), 30, progress=progress)
    assert told == [("choosing the coreset", 30), *picked.tolist()]


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


def test_a_vicinity_finds_the_points_around_picks() -> None:
    centres = torch.eye(4) * 100
    points = centres.repeat(50, 1) + torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    around = vicinity.Vicinity(points)
    assert around.add(10, points[[1]], count=1, most=2) == []
    ((members, picks),) = around.add(11, points[[5, 2]], count=1, most=2)  # the first and the second are of one cluster
    assert picks == [10, 11]
    assert set(members.tolist()) <= set(range(1, 200, 4))
    assert around.add(13, points[[1]], count=1, most=2) == [], "they wait no longer"
