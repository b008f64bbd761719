"""Exact nearest neighbours in a memory bank."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(queries: Tensor, bank: Tensor, count: int, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """Squared L2 distances and indices of the ``count`` nearest bank entries, nearest first.

    Args:
        queries: float (Q, D). bank: float (K, D). count: at most K.

    Returns:
        (distances (Q, count), indices (Q, count)). Candidates are ranked by |x|^2 - 2xy + |y|^2, and their distances then
        computed anew from the differences, so that cancellation and the batch's size do not show in the scores.
    """
    norms = bank.square().sum(dim=1)
    distances, indices = [], []
    for part in queries.split(chunk):
        ranked = torch.addmm(norms, part, bank.T, alpha=-2)  # (q, K); |x|^2 is the same for all entries
        found = ranked.topk(count, dim=1, largest=False).indices
        exact, order = (part[:, None] - bank[found]).square().sum(dim=2).sort(dim=1, stable=True)
        distances.append(exact)
        indices.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(indices)
