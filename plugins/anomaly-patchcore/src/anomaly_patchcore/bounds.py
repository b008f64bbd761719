"""Nearest entries of a memory bank by bfloat16 products with proven bounds: the results equal those of float32."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

SPARE = 3  # candidates more, for the few queries that the first ones do not answer
ROWS, MOST, VALUES = 384, 1024, 2**22  # queries at once, few enough that their products stay in the cache
STEP = 16  # their number is rounded up to a multiple of it: oneDNN keeps a program of a megabyte for each shape of a product
MEMBERS = 8  # columns of a group, of which the best is looked at
MARGIN, ULP = 1.05, 2**-8  # over the rounding of sums in float32; and of a product that is returned in bfloat16
FAR = 3e38  # of what fills the last group up
FEW = 8  # smallest values of rows that are found one by one; more of them, all at once
FEWEST = 512  # entries from which on it is worth it


class BoundedSearch:
    """A bank on the CPU, prepared for queries.

    With x and y rounded to bfloat16, x' and y', a product is off by no more than |x - x'| |y| + |x'| |y - y'| (Cauchy-Schwarz).
    Both terms, and the squared norms, are columns of the two matrices. So one product yields a lower bound of every distance.
    Distances to the entries with the smallest bounds are computed in float32. A query is answered if its k-th distance is at
    most the smallest bound of all other entries. This holds for nearly all: rounding errors are smaller than the distances'
    differences.

    Bounds are compared as integers of the same bits, a vector at once: those above zero have the same order. A negative one
    counts as smaller than all of them, and the smallest of several proves nothing.

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
        entries[:size, dim : dim + 3] = _in_three(centred.square().sum(dim=1) / 2)
        entries[:size, dim + 6] = -MARGIN * torch.linalg.vector_norm(centred, dim=1)
        entries[:size, dim + 7] = -MARGIN * torch.linalg.vector_norm(centred - rounded, dim=1)
        self._entries = entries.T

    def takes(self, k: int) -> bool:
        """Whether there are enough groups for so many neighbours."""
        return k + k // 3 + SPARE < self._groups

    def __call__(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The k nearest entries of float32 (N, D) queries.

        Returns:
            float32 (N, k) squared distances, ascending; int64 (N, k) indices; bool (N,), whether that is proved.
        """
        split = queries.split(max(ROWS, min(MOST, VALUES // len(self.bank))))
        distances, indices, proved = filled(len(queries), (self._of(part, k) for part in split))
        return distances, indices, proved

    def _of(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        bounds = (self._rows(queries) @ self._entries).view(torch.int16)[: len(queries)]  # (n, M), each 1/2 of a lower bound
        least = bounds.unflatten(1, (MEMBERS, self._groups)).amin(dim=1)
        found = self._among(queries, bounds, least, k, k + k // 3)
        if len(open_ := (~found[2]).nonzero()[:, 0]):
            more = self._among(queries[open_], bounds[open_], least[open_], k, k + k // 3 + SPARE)
            for of_all, of_open in zip(found, more, strict=True):
                of_all[open_] = of_open
        return found

    def _among(self, queries: Tensor, bounds: Tensor, least: Tensor, k: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The k nearest of so many candidates a query; ``least``: the smallest bound of each group."""
        groups, rest = _smallest(least, count)
        columns = (groups[:, :, None] + self._steps).flatten(1)
        places, within = _smallest(bounds.gather(1, columns), count)
        candidates = columns.gather(1, places)
        rest = 2 * (1 - ULP) * torch.minimum(rest, within).view(torch.bfloat16).float()
        exact, order = squared_distances(queries, self.bank, candidates).sort(dim=1, stable=True)
        return exact[:, :k], candidates.gather(1, order[:, :k]), exact[:, k - 1] <= rest

    def _rows(self, queries: Tensor) -> Tensor:
        """bfloat16 (n, D + 8), whose product with the entries is 1/2 of the bounds; n is rounded up."""
        centred = self.centre - queries.detach()
        dim = centred.shape[1]
        padded: Tensor = torch.ones(-(-len(centred) // STEP) * STEP, dim + 8, dtype=torch.bfloat16)
        rows = padded[: len(centred)]
        rows[:, :dim] = centred
        rounded = rows[:, :dim].float()
        rows[:, dim + 3 : dim + 6] = _in_three(centred.square().sum(dim=1) / 2)
        rows[:, dim + 6] = MARGIN * torch.linalg.vector_norm(centred - rounded, dim=1)
        rows[:, dim + 7] = MARGIN * torch.linalg.vector_norm(rounded, dim=1)
        return padded


def filled(length: int, parts: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The rows of all parts one after the other, ``length`` in all. Each part is copied as it comes: results that were kept
    until the end would lie between the blocks that are freed after each part, so that the next ones found no room there, and
    the process grew by gigabytes."""
    whole: list[Tensor] = []
    start = 0
    for part in parts:
        if not whole:
            whole = [one.new_empty(length, *one.shape[1:]) for one in part]
        for into, one in zip(whole, part, strict=True):
            into[start : start + len(one)] = one
        start += len(part[0])
        del part, into, one
    return tuple(whole)


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """int64 (n, count): where the smallest of each row of int16 (n, m) values are, in ascending order; int16 (n,): the next."""
    if count > FEW:
        smallest, places = values.topk(count + 1, dim=1, largest=False)
        return places[:, :count], smallest[:, count]
    left, places = values.clone(), torch.empty(len(values), count, dtype=torch.long)
    for i in range(count):  # numpy's argmin takes a twentieth of the time of topk
        places[:, i] = torch.from_numpy(left.numpy().argmin(axis=1))
        left.scatter_(1, places[:, i : i + 1], torch.iinfo(torch.int16).max)
    return places, left.amin(dim=1)


def squared_distances(queries: Tensor, bank: Tensor, candidates: Tensor) -> Tensor:
    """float32 (n, c) of (n, D) queries to the entries of their (n, c) candidates, by differences."""
    chosen = bank.index_select(0, candidates.flatten())  # in half of the time of bank[candidates]
    return (chosen.view(*candidates.shape, bank.shape[1]) - queries[:, None]).square().sum(dim=2)


def _in_three(values: Tensor) -> Tensor:
    """float32 (n,) as three columns of bfloat16 whose sum they are: 8 + 8 + 8 bits."""
    high = values.bfloat16()
    middle = (values - high.float()).bfloat16()
    return torch.stack([high, middle, (values - high.float() - middle.float()).bfloat16()], dim=1)
