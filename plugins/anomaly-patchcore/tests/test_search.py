"""Nearest neighbours against all distances in float64."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from anomaly_patchcore import bounds, cells, search
from anomaly_patchcore.bounds import BoundedSearch, filled
from anomaly_patchcore.cells import CellSearch
from anomaly_patchcore.search import BankSearch, least_distances, nearest


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_exact(k: int, offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CELLS", 1000)  # several chunks
    monkeypatch.setattr(search, "ROWS", 1)
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(70, 20, generator=generator) + offset, torch.randn(90, 20, generator=generator) + offset
    distances, indices = nearest(queries, bank, k)
    expected = torch.cdist(queries.double(), bank.double()).square().topk(k, largest=False)
    assert torch.equal(indices, expected.indices)
    assert torch.allclose(distances.double(), expected.values, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_least_distances(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(70, 20, generator=generator) + offset, torch.randn(90, 20, generator=generator) + offset
    torch.testing.assert_close(least_distances(queries, bank), nearest(queries, bank)[0][:, 0], rtol=1e-4, atol=1e-4)
    own = least_distances(bank, bank.half())
    assert (own >= 0).all()
    assert own.max() < (0.01 if offset else 1e-4)


def test_a_point_of_the_bank_is_at_zero() -> None:
    bank = torch.randn(50, 30) * 100
    assert not nearest(bank, bank)[0].any()


def test_batches_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(33, 8, generator=generator), torch.randn(40, 8, generator=generator)
    parts = torch.cat([nearest(part, bank, 3)[0] for part in queries.split(5)])
    assert torch.equal(parts, nearest(queries, bank, 3)[0])


def test_more_neighbours_than_entries_and_no_query() -> None:
    assert nearest(torch.rand(4, 3), torch.rand(2, 3), 9)[0].shape == (4, 2)
    assert nearest(torch.rand(0, 3), torch.rand(2, 3))[0].shape == (0, 1)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("size", [512, 517])  # the last group is filled up, or not
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_bounds_prove_what_float64_finds(k: int, size: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(size, 40, generator=generator) * 10 + offset
    queries = bank[torch.randint(size, (1500,), generator=generator)] + torch.randn(1500, 40, generator=generator)
    queries[:5] = bank[:5]
    distances, indices, proved = BoundedSearch(bank)(queries, k)
    expected = torch.cdist(queries.double(), bank.double()).square().topk(k, largest=False)
    assert proved.float().mean() > (0.95 if k == 1 else 0.5)
    assert torch.equal(indices[proved], expected.indices[proved])
    torch.testing.assert_close(distances[proved].double(), expected.values[proved], rtol=1e-4, atol=1e-9)


def test_bounds_prove_nothing_of_ties_and_of_what_is_not_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(64, 20, generator=generator)
    queries = torch.randn(100, 20, generator=generator)
    queries[50], queries[51] = torch.nan, 1e30
    proved = BoundedSearch(few.repeat(10, 1))(queries, 1)[2]
    assert not proved.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_search_with_bounds_answers_as_nearest_does(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "has_bfloat16", lambda: True)  # slow but right on other CPUs
    monkeypatch.setattr(bounds, "FEWEST", 600)
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(600, 24, generator=generator).to(dtype)
    bank[300:330] = bank[:30]  # distances that are equal: nothing is proved, and float32 decides
    queries = torch.cat([torch.randn(300, 24, generator=generator), bank[:100].float()])
    assert BankSearch(bank)._bounded is not None
    for k in (1, 5):
        found, expected = BankSearch(bank)(queries, k), nearest(queries, bank, k)
        assert torch.equal(found[0], expected[0])
        different = found[1] != expected[1]
        assert torch.equal(bank[found[1][different]], bank[expected[1][different]])
    assert BankSearch(bank)(queries[:0])[0].shape == (0, 1)
    assert BankSearch(bank)(queries[:3], 100)[0].shape == (3, 100)  # more than there are groups


def like_features(count: int, offset: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Few directions and noise in forty dimensions, (count, 40)."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(6, 40, generator=torch.Generator().manual_seed(9)) * 5
    return torch.randn(count, 6, generator=generator) @ mix + torch.randn(count, 40, generator=generator) + offset


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("values", [cells.VALUES, 5000])  # at once, or in parts
def test_cells_prove_what_float64_finds(k: int, offset: float, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "VALUES", values)
    bank, queries = like_features(1500, offset), like_features(700, offset, seed=1)
    queries[:5], queries[5:9] = bank[:5], queries[5:9] + 40  # entries themselves, and outliers
    distances, indices, proved = CellSearch(bank)(queries, k)
    expected = torch.cdist(queries.double(), bank.double()).square().topk(k, largest=False)
    assert proved.float().mean() > 0.9
    assert torch.equal(indices[proved], expected.indices[proved])
    torch.testing.assert_close(distances[proved].double(), expected.values[proved], rtol=1e-5, atol=1e-9)


def test_cells_look_into_few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = CellSearch(like_features(3000))
    kept = []
    among = searched._among
    monkeypatch.setattr(searched, "_among", lambda q, p, near, *rest: kept.append(near) or among(q, p, near, *rest))
    searched(like_features(500, seed=1), 1)
    assert 0 < float(kept[0].float().mean()) < 0.5


@torch.inference_mode()
def test_cells_answer_the_same_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "ROWS", 64)
    searched, queries, threads = CellSearch(like_features(1500)), like_features(700, seed=1), torch.get_num_threads()
    alone = set[str]()
    of = searched._of
    monkeypatch.setattr(searched, "_of", lambda *a, **k: alone.add(threading.current_thread().name) or of(*a, **k))
    try:
        torch.set_num_threads(1)
        in_one = searched(queries, 2)
        assert alone == {threading.current_thread().name}
        torch.set_num_threads(3)
        in_three = searched(queries, 2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert len(alone) > 1
    assert all(map(torch.equal, in_one, in_three))


def test_cells_leave_open_what_is_not_finite_and_what_has_too_many_ties() -> None:
    bank = like_features(40).repeat(50, 1)
    queries = like_features(50, seed=1)
    assert CellSearch(bank)(queries, 1)[2].float().mean() > 0.5  # fifty ties each
    queries[3], queries[4] = torch.nan, 1e30
    _, _, proved = CellSearch(like_features(1500))(queries, 1)
    assert not proved[3:5].any()
    assert proved[5:].all()
    assert CellSearch(torch.ones(200, 8))(torch.ones(3, 8), 1)[0].eq(0).all()  # one point, one cell


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_search_with_cells_answers_as_nearest_does(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "has_bfloat16", lambda: False)
    monkeypatch.setattr(cells, "FEWEST", 1000)
    bank = like_features(1000).to(dtype)
    bank[300:330] = bank[:30]
    queries = torch.cat([like_features(300, seed=1), bank[:100].float()])
    queries[7] = torch.nan
    made = BankSearch(bank)
    assert isinstance(made._bounded, CellSearch)
    for k in (1, 5):
        found, expected = made(queries, k), nearest(queries, bank, k)
        torch.testing.assert_close(found[0], expected[0], equal_nan=True, rtol=1e-5, atol=0)
        different = found[1] != expected[1]
        assert torch.equal(bank[found[1][different]], bank[expected[1][different]])
        assert torch.equal(torch.cat([made(part, k)[0] for part in queries[10:].split(37)]), found[0][10:])
    assert made(queries[:0])[0].shape == (0, 1)
    assert made(queries[:3], 100)[0].shape == (3, 100)  # more than the cells take
    made(torch.randn(50, 40) * 1e4, 1)
    assert BankSearch(torch.full((1000, 4), torch.nan))._bounded is None


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_farthest_patch_of_an_image_is_exact_where_an_index_misses(kind: search.Kind, k: int, monkeypatch) -> None:
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(400, 16, generator=generator)
    patches = torch.randn(5, 60, 16, generator=generator) * torch.linspace(0.5, 1.5, 60)[:, None]
    exact = BankSearch(bank).of_images(patches, k)
    made = BankSearch(bank, kind)
    found = made._indexed

    def missed(queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Half of the answers are the farthest entries instead."""
        distances, indices, proved = found(queries, k)
        worst = torch.cdist(queries, bank).square().topk(k).values.flip(1)
        distances[::2] = worst[::2]
        return distances, indices, proved

    monkeypatch.setattr(made, "_indexed", missed)
    distances, indices = made.of_images(patches, k)
    assert distances.shape == indices.shape == (5, 60, k)
    expected, farthest = exact[0].mean(dim=2).max(dim=1)
    assert torch.equal(distances.mean(dim=2).max(dim=1).indices, farthest)
    assert torch.equal(distances[range(5), farthest], exact[0][range(5), farthest])
    assert torch.equal(indices[range(5), farthest], exact[1][range(5), farthest])
    assert (made(patches.flatten(0, 1), k)[0].mean(dim=1).view(5, 60).amax(dim=1) > expected).all()  # alone it misses
    assert made.of_images(patches[:0], k)[0].shape == (0, 60, k)


def test_queries_of_any_number_need_few_products() -> None:
    queries = torch.rand(200, 8, generator=torch.Generator().manual_seed(0))
    search = BoundedSearch(queries)
    assert len({len(search._rows(queries[:count])) for count in range(1, 201)}) == 13, "each keeps a megabyte"


def test_nothing_of_a_part_is_held_while_the_next_is_computed() -> None:
    """Of what is held, malloc would make a wall between free blocks: a search grew by 14 GB."""
    made: list[weakref.ref[Tensor]] = []

    def part(number: int) -> tuple[Tensor]:
        assert all(one() is None for one in made)
        values = torch.full((number, 2), number)
        made.append(weakref.ref(values))
        return (values,)

    def parts() -> Iterator[tuple[Tensor]]:
        for number in (3, 3, 1):
            yield part(number)

    (whole,) = filled(7, parts())
    assert whole.tolist() == [[3, 3]] * 6 + [[1, 1]]
    assert len(made) == 3
