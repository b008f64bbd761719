"""Nearest entries of a memory bank by bfloat16 products with proven bounds: the results equal those of float32."""

from __future__ import annotations

import torch
from torch import Tensor

SPARE = 2  # candidates beyond k whose true distances are computed; the next one's bound is the proof
ROWS, MEMBERS = 1024, 8  # queries at once, whose products stay in the cache; columns of a group, of which the best is looked at
MARGIN, ULP = 1.05, 2**-8  # over the rounding of sums in float32; and of a product that is returned in bfloat16
FAR = -3e38  # of what fills the last group up
FEWEST = 2048  # entries from which on it is worth it


class BoundedSearch:
    """A bank on the CPU, prepared for queries.

    With x and y rounded to bfloat16, x' and y', a product is off by no more than |x - x'| |y| + |x'| |y - y'| (Cauchy-Schwarz).
    Both terms, and the squared norms, are columns of the two matrices. So one product yields a lower bound of every distance.
    Distances to the entries with the smallest bounds are computed in float32. A query is answered if its k-th distance is at
    most the smallest bound of all other entries. This holds for nearly all: rounding errors are smaller than the distances'
    differences.

    Args:
        bank: float (M, D), of any precision.
    """

    def __init__(self, bank: Tensor) -> None:
        self.bank = bank
        self.centre = bank.float().mean(dim=0)  # smaller norms, closer bounds
        centred = bank.float() - self.centre
        size, dim = bank.shape
        self._groups = -(-size // MEMBERS)
        self._steps = torch.arange(0, self._groups * MEMBERS, self._groups)
        entries = torch.zeros(self._groups * MEMBERS, dim + 8, dtype=torch.bfloat16)
        entries[size:, dim] = FAR
        entries[:, dim + 3 : dim + 6] = 1
        entries[:size, :dim] = centred
        rounded = entries[:size, :dim].float()
        entries[:size, dim : dim + 3] = _in_three(centred.square().sum(dim=1) / -2)
        entries[:size, dim + 6] = MARGIN * torch.linalg.vector_norm(centred, dim=1)
        entries[:size, dim + 7] = MARGIN * torch.linalg.vector_norm(centred - rounded, dim=1)
        self._entries = entries.T

    def takes(self, k: int) -> bool:
        """Whether there are enough groups for so many neighbours."""
        return k + SPARE < self._groups

    def __call__(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The k nearest entries of float32 (N, D) queries.

        Returns:
            float32 (N, k) squared distances, ascending; int64 (N, k) indices; bool (N,), whether that is proved.
        """
        distances, indices, proved = zip(*(self._of(part, k) for part in queries.split(ROWS)), strict=True)
        return torch.cat(distances), torch.cat(indices), torch.cat(proved)

    def _of(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        count = k + SPARE
        bounds = self._rows(queries) @ self._entries  # (n, M), each -1/2 of a lower bound
        best, group = bounds.unflatten(1, (MEMBERS, self._groups)).amax(dim=1).topk(count + 1, dim=1)
        columns = (group[:, :count, None] + self._steps).flatten(1)
        within, order = bounds.gather(1, columns).topk(count + 1, dim=1)
        candidates = columns.gather(1, order[:, :count])
        rest = -2 * (1 - ULP) * torch.maximum(within[:, count], best[:, count]).float()
        exact, order = squared_distances(queries, self.bank, candidates).sort(dim=1, stable=True)
        return exact[:, :k], candidates.gather(1, order[:, :k]), exact[:, k - 1] <= rest

    def _rows(self, queries: Tensor) -> Tensor:
        """bfloat16 (n, D + 8), whose product with the entries is -1/2 of the bounds."""
        centred = queries - self.centre
        dim = centred.shape[1]
        rows = torch.ones(len(centred), dim + 8, dtype=torch.bfloat16)
        rows[:, :dim] = centred
        rounded = rows[:, :dim].float()
        rows[:, dim + 3 : dim + 6] = _in_three(centred.square().sum(dim=1) / -2)
        rows[:, dim + 6] = MARGIN * torch.linalg.vector_norm(centred - rounded, dim=1)
        rows[:, dim + 7] = MARGIN * torch.linalg.vector_norm(rounded, dim=1)
        return rows


def squared_distances(queries: Tensor, bank: Tensor, candidates: Tensor) -> Tensor:
    """float32 (n, c) of (n, D) queries to the entries of their (n, c) candidates, by differences."""
    return (bank[candidates] - queries[:, None]).square().sum(dim=2)


def _in_three(values: Tensor) -> Tensor:
    """float32 (n,) as three columns of bfloat16 whose sum they are: 8 + 8 + 8 bits."""
    high = values.bfloat16()
    middle = (values - high.float()).bfloat16()
    return torch.stack([high, middle, (values - high.float() - middle.float()).bfloat16()], dim=1)
