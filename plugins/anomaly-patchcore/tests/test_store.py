"""PatchStore: what a budget bounds, and that a coreset of coresets knows how far it may be off."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anomaly_core import ConfigError
from anomaly_patchcore.patchcore import store as module
from anomaly_patchcore.patchcore.budget import parse_bytes
from anomaly_patchcore.patchcore.model import PatchCoreModel
from anomaly_patchcore.patchcore.store import PatchStore

DIM = 12
ROW = 4 * DIM + module.STATE + 0.02 * (20 + 12) * DIM  # bytes of a patch and its share of a bank, with all that is computed


@pytest.fixture
def points() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3000, 4, generator=generator) @ torch.randn(4, DIM, generator=generator)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 200)


def of_rows(rows: int) -> int:
    """A budget that holds so many patches; half of so small a one is left to what searches hold at any size."""
    return math.ceil(rows * ROW * 2) + 2


def filled(points: Tensor, rows: int | None, ratio: float = 0.02, step: int = 170) -> PatchStore:
    store = PatchStore(None if rows is None else of_rows(rows), seed=0, ratio=ratio)
    for part in points.split(step):
        store.add(part)
    return store


def true_radius(points: Tensor, bank: Tensor) -> float:
    """In float64, from every point that ever came."""
    return float(torch.cdist(points.double(), bank.double()).amin(dim=1).max())


@pytest.mark.parametrize("rows", [40, 250, 700, 2999])
@pytest.mark.parametrize("step", [1, 170, 3000])
def test_a_budget_bounds_what_is_held_whatever_comes(points: Tensor, rows: int, step: int) -> None:
    points = points if step > 1 else points[:300]
    store = filled(points, min(rows, len(points)), step=step)
    assert store.total == len(points)
    assert len(store) <= store.capacity == min(rows, len(points))
    assert store.peak <= rows * 4 * DIM
    known = {tuple(row) for row in points.tolist()}
    assert all(tuple(row) in known for row in store.patches().tolist())


@pytest.mark.parametrize(("rows", "looseness"), [(250, 8), (700, 3)])  # each thinning of all adds its radius to what is told
def test_no_patch_lies_farther_than_the_radius_that_is_told(points: Tensor, rows: int, looseness: float) -> None:
    model = PatchCoreModel(target_dim=None)
    model.build_from(filled(points, rows))
    exact = PatchCoreModel(target_dim=None)
    exact.build(points, 0.02, None, torch.Generator().manual_seed(0))
    assert len(model.memory_bank) == len(exact.memory_bank) == 60
    measured, best = true_radius(points, model.memory_bank), float(exact.coreset_radius)
    assert best == pytest.approx(true_radius(points, exact.memory_bank), rel=1e-5)
    assert measured <= float(model.coreset_radius) * (1 + 1e-5)
    # Thinning to four times the share costs little; greedy alone is within twice of the best there is.
    assert measured <= 1.5 * best
    assert float(model.coreset_radius) <= looseness * best


def test_what_fits_is_the_exact_coreset(points: Tensor) -> None:
    store = filled(points, len(points))
    assert torch.equal(store.patches(), points)
    model = PatchCoreModel(target_dim=None)
    model.build_from(store)
    assert float(model.coreset_radius) == pytest.approx(true_radius(points, model.memory_bank), rel=1e-5)


def test_the_same_seed_keeps_the_same_patches(points: Tensor) -> None:
    one, two = filled(points, 300), filled(points, 300)
    assert torch.equal(one.patches(), two.patches())
    assert torch.equal(one.reach, two.reach)  # type: ignore[arg-type]  # both within a budget


def test_stores_of_two_processes_make_one(points: Tensor) -> None:
    halves = [filled(part, 400) for part in points.split(1500)]
    joined = PatchStore(of_rows(400), ratio=0.02)
    for half in halves:
        half.shrink(200)
        assert len(half) <= 200
        joined.add(half.patches(), half.reach, half.total)
    assert joined.total == len(points)
    model = PatchCoreModel(target_dim=None)
    model.build_from(joined)
    assert len(model.memory_bank) == 60
    assert true_radius(points, model.memory_bank) <= float(model.coreset_radius) * (1 + 1e-5)


def test_without_a_budget_all_is_kept(points: Tensor) -> None:
    store = filled(points, None)
    assert store.reach is None
    assert store.capacity == 0
    store.shrink(10)
    assert torch.equal(store.patches(), points)


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2 * 2**30), ("500 MB", 500_000_000), ("1e9", 10**9), (" 1.5kib", 1536), ("7B", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "many", "-1GB", "0", "1.2.3MB", "3 parsecs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=r"model.memory_budget=.* is no size"):
        parse_bytes(text)


def test_a_budget_too_small_for_two_patches(points: Tensor) -> None:
    with pytest.raises(ConfigError, match="holds 1 patches"):
        PatchStore(of_rows(1), ratio=0.02).add(points)
