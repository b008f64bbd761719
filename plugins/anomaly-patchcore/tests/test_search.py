"""Nearest neighbours against all distances in float64."""

from __future__ import annotations

import pytest
import torch

from anomaly_patchcore import search
from anomaly_patchcore.search import nearest


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
