"""Exact nearest neighbours: candidates by matrix products, their distances from differences."""

from __future__ import annotations

import torch
from torch import Tensor

SPARE = 3  # candidates beyond k, so that rounding of the products does not hide the true neighbour
CELLS = 2**24  # distances that are held at once


def nearest(queries: Tensor, bank: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest bank entries of each query, by Euclidean distance.

    Candidates come from |q|^2 - 2qb + |b|^2; the distances of the winners are computed again from differences, so that they
    do not depend on how the queries are batched.

    Args:
        queries: float (N, D).
        bank: float (M, D) with M >= 1.
        k: neighbours a query; no more than M are returned.

    Returns:
        float32 (N, min(k, M)) **squared** distances, ascending, and int64 indices into the bank of the same shape.
    """
    k = min(k, len(bank))
    with torch.autocast(queries.device.type, enabled=False):
        queries, bank = queries.float(), bank.float()
        centre = bank.mean(dim=0)  # smaller norms, smaller rounding
        centred = bank - centre
        norms = (centred * centred).sum(dim=1)
        rows = max(1, CELLS // len(bank))
        parts = [_nearest(part, bank, part - centre, centred, norms, k) for part in queries.split(rows)]
    if not parts:
        return queries.new_empty(0, k), torch.empty(0, k, dtype=torch.long, device=queries.device)
    return torch.cat([distances for distances, _ in parts]), torch.cat([indices for _, indices in parts])


def _nearest(
    queries: Tensor, bank: Tensor, centred_queries: Tensor, centred: Tensor, norms: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    # the queries' own norms change no ranking and are left out: (n, M)
    products = torch.addmm(norms, centred_queries, centred.T, alpha=-2)
    candidates = products.topk(min(k + SPARE, len(bank)), dim=1, largest=False).indices
    exact = torch.stack([(queries - bank[column]).square().sum(dim=1) for column in candidates.unbind(dim=1)], dim=1)
    distances, order = exact.sort(dim=1, stable=True)
    return distances[:, :k], candidates.gather(1, order)[:, :k]
