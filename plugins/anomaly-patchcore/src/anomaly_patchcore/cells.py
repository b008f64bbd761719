"""Exact nearest entries of a memory bank on the CPU, by bounds that prove nearly all entries to be too far.

- Distances in a bank's first principal directions are at most the distances in all of them; the length of what is left out
  counts as one direction more (both are orthogonal projections, and lengths differ by no more than their vectors do).
- There the bank falls into cells, those of k-means. Let m be a cell's centre and a the centre that is nearest to a query.
  Along the direction from a to m, all entries of the cell lie beyond some point, which is known beforehand, and the query's
  products with the centres say how far before that point it lies: so far is it from all of them. With such hyperplanes
  (Uhlmann, 1991, "Satisfying general proximity/similarity queries with metric trees") a query looks into an eighth of the
  cells; by the triangle inequality with the cells' radii, into half.
- A query's own cell says how far its nearest entry is at most. Distances are computed of the few that are not farther by their
  bounds, from differences.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from anomaly_patchcore.bounds import filled

FEWEST = 3072  # entries from which on it is worth it
SHARE = 0.97  # of the variance, in the principal directions
MEMBERS, MOST, STEPS = 48, 1024, 4  # entries of a cell, about; cells; steps of k-means
ROWS, VALUES = 4096, 2**24  # queries at once in a thread; bounds that all threads keep at once
TABLES = 2**23  # pairs of a query and a cell in all threads at once
CANDIDATES = 256  # of a query; with more it is not answered
PAIRS = 512  # of a query and an entry, whose differences are kept at once
MARGIN = 16 * 2**-24  # over the rounding of a sum of products, for each of its terms


class CellSearch:
    """A bank on the CPU, prepared for queries: most of its directions in float32 again, and tables of pairs of cells.

    Args:
        bank: float (M, D), of any precision.
    """

    def __init__(self, bank: Tensor) -> None:
        self.bank = bank
        dim = bank.shape[1]
        self._centre = bank.float().mean(dim=0)
        centred = bank.float() - self._centre
        variances, directions = torch.linalg.eigh((centred.T @ centred).double())
        self._directions = directions.flip(1).float()
        self._kept = min(dim, 1 + int((variances.flip(0).cumsum(0) < SHARE * variances.sum()).sum()))
        projected = self._projected(centred)
        centres, cell = _k_means(projected, max(1, min(MOST, len(bank) // MEMBERS)))
        self._places = cell.argsort(stable=True)  # the entries in the order of their cells
        self._sizes = cell.bincount(minlength=len(centres))
        self._starts = self._sizes.cumsum(0) - self._sizes
        self._firsts = self._starts.tolist()
        entries = projected[self._places]
        norms = entries.square().sum(dim=1, keepdim=True)
        sizes = self._sizes.tolist()
        self._cells = torch.cat([entries, norms, torch.ones_like(norms)], dim=1).split(sizes)
        self._rounding = MARGIN * (dim + 2)
        self._reach = float(norms.amax().sqrt())
        # both (cells, cells): a row's entries, seen from a column's centre
        lowest = [((c - centres) @ part.T).amin(dim=1) for c, part in zip(centres, entries.split(sizes), strict=True)]
        inverse = (1 - 2**-12) / torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
        self._inverse = torch.where(inverse.isfinite(), inverse, 0)  # 0: its own cell is looked into
        self._lowest, self._centres, self._halves = torch.stack(lowest), centres, centres.square().sum(dim=1, keepdim=True) / 2

    def takes(self, k: int) -> bool:
        """Whether nearly all cells have so many entries."""
        return k <= MEMBERS // 4

    def __call__(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The k nearest entries of float32 (N, D) queries.

        Returns:
            float32 (N, k) squared distances, ascending; int64 (N, k) indices; bool (N,), whether they are those.
        """
        distances, indices, proved = filled(len(queries), self._of_parts(queries.split(ROWS), k))
        return distances, indices, proved

    def _of_parts(self, parts: tuple[Tensor, ...], k: int) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """What :meth:`_of` says of each part. Its products are too small to be shared by threads: each thread takes parts."""
        threads = torch.get_num_threads()
        workers = min(threads, len(parts), max(1, TABLES // (ROWS * len(self._cells))))
        if workers == 1 or torch.is_grad_enabled():
            yield from (self._of(part, k, VALUES) for part in parts)
            return
        try:
            with ThreadPoolExecutor(workers, "search", _alone) as pool:
                yield from pool.map(partial(self._of, k=k, room=VALUES // workers), parts)
        finally:
            torch.set_num_threads(threads)  # of threads that begin later

    def _projected(self, centred: Tensor) -> Tensor:
        """(n, D) -> (n, d + 1)."""
        rotated = centred @ self._directions
        return torch.cat([rotated[:, : self._kept], rotated[:, self._kept :].norm(dim=1, keepdim=True)], dim=1)

    def _of(self, queries: Tensor, k: int, room: int) -> tuple[Tensor, Tensor, Tensor]:
        centred = queries.detach() - self._centre
        points = self._projected(centred)
        squared = centred.square().sum(dim=1)
        reach = squared.sqrt() + self._reach
        slack = self._rounding * reach.square()
        products = self._centres @ points.T  # (cells, N)
        own = (products - self._halves).argmax(dim=0)
        points = torch.cat([-2 * points, torch.ones_like(points[:, :1]), squared[:, None]], dim=1)
        met = self._met(queries, points, own, k) + slack
        points[:, -1] -= met  # from now on a product is a bound less what was met
        past = products.gather(0, own[None])[0] - self._rounding * self._reach * reach
        bounds = self._lowest[:, own].sub_(products).add_(past).mul_(self._inverse[:, own])
        near = (bounds <= met.clamp(min=0).sqrt()) & met.isfinite()
        return self._among(queries, points, near, k, room)

    def _met(self, queries: Tensor, points: Tensor, own: Tensor, k: int) -> Tensor:
        """(N,): squared distances of each query to the farthest of k entries, those in its own cell with the least bounds."""
        rows = own.argsort(stable=True)
        counts = own.bincount(minlength=len(self._cells)).tolist()
        met = torch.full((len(rows), k), -1)
        for cell, (of, part) in enumerate(zip(rows.split(counts), met.split(counts), strict=True)):
            if len(of) and len(self._cells[cell]) >= k:
                values = points.index_select(0, of) @ self._cells[cell].T
                torch.add(_smallest(values, k), self._firsts[cell], out=part)
        distances = self._distances(queries, rows.repeat_interleave(k), self._places[met.flatten()]).view(met.shape).amax(dim=1)
        farthest = torch.empty_like(distances)
        farthest[rows] = distances.masked_fill(met[:, 0] < 0, torch.inf)
        return farthest

    def _among(self, queries: Tensor, points: Tensor, near: Tensor, k: int, room: int) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`__call__`: the nearest entries in near cells, bool (cells, N); ``room``: bounds that are kept at once."""
        counts = near.sum(dim=1)
        held = counts * self._sizes
        if int(held.sum()) > room and len(queries) > 1:
            halves = zip(*(t.tensor_split(2) for t in (queries, points, near.T)), strict=True)
            found = zip(*(self._among(q, p, n.T, k, room) for q, p, n in halves), strict=True)
            distances, indices, proved = map(torch.cat, found)
            return distances, indices, proved
        rows = near.nonzero()[:, 1]
        values = torch.empty(int(held.sum()))
        for of, entries, into in zip(rows.split(counts.tolist()), self._cells, values.split(held.tolist()), strict=True):
            if len(of):
                torch.mm(points.index_select(0, of), entries.T, out=into.view(len(of), len(entries)))
        at = torch.from_numpy(np.flatnonzero(values.numpy() <= 0))  # in a tenth of torch's time
        # from the place of each bound among all of them to its query and its entry
        ends = held.cumsum(0)
        cell = torch.searchsorted(ends, at, right=True)
        within = at - (ends - held)[cell]
        line = within // self._sizes[cell]
        query = rows[(counts.cumsum(0) - counts)[cell] + line]
        entry = self._places[self._starts[cell] + within - line * self._sizes[cell]]
        # each query's candidates as a row of a table
        order = torch.from_numpy(np.argsort(query.numpy().astype(np.int16), kind="stable"))  # by digits
        query, entry = query[order], entry[order]
        counts = query.bincount(minlength=len(queries))
        proved = (counts >= k) & (counts <= CANDIDATES)
        kept = proved[query]
        column = (torch.arange(len(query)) - (counts.cumsum(0) - counts)[query])[kept]
        query, entry = query[kept], entry[kept]
        distances = torch.full((len(queries), max(k, int(counts.where(proved, 0).amax()))), torch.inf)
        entries = torch.zeros(distances.shape, dtype=torch.long)
        distances[query, column], entries[query, column] = self._distances(queries, query, entry), entry
        distances, order = distances.topk(k, dim=1, largest=False)
        return distances, entries.gather(1, order), proved

    def _distances(self, queries: Tensor, rows: Tensor, entries: Tensor) -> Tensor:
        """float32 (n,): squared, of n pairs of a query and an entry, by differences."""
        parts = zip(rows.split(PAIRS), entries.split(PAIRS), strict=True)
        bank = self.bank  # index_select takes a quarter of the time of bank[entry]
        return torch.cat([(bank.index_select(0, e) - queries.index_select(0, r)).square().sum(dim=1) for r, e in parts])


def _alone() -> None:
    """Compute in the calling thread alone, and without gradients."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def _smallest(values: Tensor, k: int) -> Tensor:
    """int64 (n, k): where the k smallest of each row of (n, m) values are."""
    return values.argmin(dim=1, keepdim=True) if k == 1 else values.topk(k, dim=1, largest=False).indices


def _k_means(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The centres of at most so many cells, none of them empty, and int64 (M,), each point's cell."""
    centres = points[:: len(points) // count][:count]
    for step in range(STEPS + 1):
        halves = centres.square().sum(dim=1) / 2
        cell = torch.cat([(part @ centres.T - halves).argmax(dim=1) for part in points.split(ROWS)])
        kept, cell, sizes = cell.unique(return_inverse=True, return_counts=True)
        if step < STEPS:
            centres = torch.zeros(len(kept), points.shape[1]).index_add_(0, cell, points) / sizes[:, None]
    return centres[kept], cell
