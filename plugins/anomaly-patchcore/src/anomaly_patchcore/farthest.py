"""The search behind the greedy k-center: which point is the farthest from all picks, exactly, without comparing all with all.

The plain loop computes the distance of every point to every pick. But a point's distance to its nearest pick only shrinks, so
an old distance is an upper bound: only points whose bound is among the largest can be picked next. So

1. the points with the largest bounds are the pool; the largest bound outside of it is its floor;
2. each point of the pool is compared, by matrix products in float32, with the picks it has not seen. What is added to every
   product is more than its rounding can be, so that the result is an upper bound again; points at the floor leave the pool;
3. the few points that remain are compared in float64 with all picks, and picked as long as the largest distance is above the
   floor.

To prove that a point is not the farthest, one pick that is near enough will do. Where there are many points, each pick
therefore lowers the bounds of those around it soon (:class:`~anomaly_patchcore.vicinity.Vicinity`): of 1,250,000 points and
12,500 picks, 6 % of all pairs are compared, and not 26 %.

Nothing is sampled or rounded away: picks are compared in float64, and from differences of coordinates (several times slower)
as soon as cancellation in the products could hide which point is the farthest: in ties, and where what is left is nearly
copies of the picks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anomaly_patchcore.vicinity import Vicinity

POOL = 8192  # points that may be picked in a round
FRONT = 8  # pools that are kept apart, so that not every round looks at all bounds
BLOCK = 256  # picks that a pool is compared with at once; also after how many a point may leave
ROWS = 1024  # points that are compared with a block at once: both, and their distances, stay in the cache
MANY = 2**19  # points from which on picks are soon compared with the points around them:
AROUND = 2  # those in so many cells,
WAITING = 32  # as soon as so many picks wait for a cell,
LOW = 0.75  # if the points' bounds are above this share of the floor
CELLS = 2**20  # distances, or coordinates as float64, that are held at once
FEW = 1024  # remaining points up to which all their distances are computed at once
CLOSE = 1e-8  # |x|^2 - 2xc + |c|^2 in float64 is trusted above this share of |x|^2,
TIE = 1e-12  # and to this share of |x|^2; what is closer, or as near to another, is computed from differences
TINY = 2.0**-100  # more than what float32 flushes to zero in a sum of products of numbers up to 1


class Compared(NamedTuple):
    """How points are compared with picks.

    Attributes:
        bounds: float64 (N,): of each point, the least squared distance so far, or an upper bound of it.
        seen: int32 (N,): with how many of the picks, the first, each point was compared.
        rows: points by their indices, as the distances need them.
        distances: of such rows to their nearest of the picks from a start to an end, squared, or bounds: float64 (n,).
    """

    bounds: Tensor
    seen: Tensor
    rows: Callable[[Tensor], Tensor]
    distances: Callable[[Tensor, int, int], Tensor]


class FarthestFirst:
    """The state of one search: for each point an upper bound of its squared distance, and the number of picks it has seen.

    Args:
        points: float (N, D), of any precision, finite.
        first: index of the first pick.
        capacity: how many picks there may be.
        known: float64 (N,): squared distances to picks of an earlier search, if there were any.
    """

    def __init__(self, points: Tensor, first: int, capacity: int, known: Tensor | None = None) -> None:
        self.points = points
        self.first = first
        device, dim = points.device, points.shape[1]
        # A point near the mean as origin makes norms, and so rounding, small; a point rather than the mean itself, so that
        # distances between points on a grid stay exact, and so do their ties.
        some = points[:: max(1, len(points) // 1024)].double()
        self.origin = some[(some - some.mean(dim=0)).square().sum(dim=1).argmin()]
        start = points[first].double()
        self.exact = self._rowwise(lambda part: (part - start).square().sum(dim=1))  # to the first ``exact_seen`` picks
        self.largest = float(self._rowwise(lambda part: (part - self.origin).square().sum(dim=1)).max())
        if known is not None:
            self.exact = torch.minimum(self.exact, known).masked_fill(known == 0, -1)
        self.bounds = self.exact.clone()  # -1: picked, or a copy of another point
        self.bounds[self._copies()] = -1
        self.known = known
        self.exact_seen = torch.ones(len(points), dtype=torch.int32, device=device)
        self.seen = torch.ones(len(points), dtype=torch.int32, device=device)
        self.centres = torch.empty(capacity, dim + 2, dtype=torch.float64, device=device)
        # float32: coordinates of at most 1, so that no square overflows. A power of two scales without rounding.
        self.scale = 2.0 ** -math.frexp(self.largest**0.5)[1] if self.largest else 1.0
        # the error of a product as a share of both norms, by :meth:`_rounded`
        self.margin = 1 + 1.1 * ((3 * dim + 16) * 2**-24 + 5 * _precision())
        wide = points.dtype == torch.float64 or not 2.0**-100 < self.scale < 2.0**100
        self.shift = (self.origin * self.scale).to(torch.float64 if wide else torch.float32)
        self.order = torch.empty(capacity, dtype=torch.long, device=device)
        self.rounded = torch.empty(capacity, dim + 2, device=device)
        self.distances = torch.empty(ROWS * BLOCK, device=device)
        self.picked = 0
        self.direct = False
        self.vicinity = Vicinity(points) if len(points) >= MANY else None

    def picks(self) -> Iterator[int]:
        """Indices in the order of picking, until no point is left that differs from all picks."""
        upper = Compared(self.bounds, self.seen, self._rounded, self._at_most)
        exact = Compared(self.exact, self.exact_seen, self._lifted, self._squared)
        self._add([self.first])
        self.bounds[self.first] = -1
        yield self.first
        front, rest = _largest(self.bounds, FRONT * POOL)
        while len(front):
            among, floor = _largest(self.bounds.index_select(0, front), POOL)
            floor = max(floor, rest)
            pool = front[among]
            pool = pool[self.bounds[pool] > floor]
            if not len(pool):
                front, rest = _largest(self.bounds, FRONT * POOL)
                continue
            pool = self._compare(pool, floor, upper)
            pool = self._compare(pool, floor, exact).sort().values
            lifted, squared = self._lifted(pool), self.exact[pool].cpu().numpy()
            indices, norms = pool.tolist(), [] if self.direct else lifted[:, -2].tolist()
            chosen: list[int] = []
            blurred = False
            columns = self._between(lifted, lifted).cpu().numpy() if len(pool) <= FEW else None
            while len(pool) and not blurred:
                row = int(squared.argmax())  # the first of equal ones; the pool is in order
                value = float(squared[row])
                if value <= floor:
                    break
                if value == 0 and self.direct:
                    return
                blurred = not self.direct and _is_blurred(value, floor, squared, norms[row])
                if not blurred:
                    chosen.append(indices[row])
                    yield chosen[-1]
                    column = (
                        self._between(lifted, lifted[row : row + 1])[:, 0].cpu().numpy() if columns is None else columns[row]
                    )
                    np.minimum(squared, column, out=squared)
                    squared[row] = -1
            self._add(chosen)
            self._spread(chosen, floor)
            self.exact[pool] = self.bounds[pool] = torch.from_numpy(squared).to(self.bounds.device)
            self.exact_seen[pool] = self.seen[pool] = self.picked
            if blurred:
                self._turn_direct()
                front, rest = _largest(self.bounds, FRONT * POOL)  # the bounds outside have grown too

    def _compare(self, pool: Tensor, floor: float, how: Compared) -> Tensor:
        """Lower the pool's bounds by all picks that it has not seen; the points that stay above the floor."""
        if not len(pool):
            return pool
        return torch.cat([self._compare_part(part, floor, how) for part in pool.split(POOL)])

    def _compare_part(self, pool: Tensor, floor: float, how: Compared) -> Tensor:
        begin, order = how.seen[pool].sort(descending=True)
        pool = pool[order]
        rows, nearest = how.rows(pool), how.bounds[pool]
        start = int(begin[-1])
        while start < self.picked and len(pool):
            end = min(start + BLOCK, self.picked)
            behind = int((begin < end).sum())  # the last rows, as they are in descending order
            for row in range(len(pool) - behind, len(pool), ROWS):
                part = slice(row, row + ROWS)
                nearest[part] = torch.minimum(nearest[part], how.distances(rows[part], start, end))
            begin = begin.clamp(min=end)
            keep = (nearest > floor).nonzero()[:, 0]
            if end == self.picked or 2 * len(keep) < len(pool):
                how.bounds[pool], how.seen[pool] = nearest, begin
                self.bounds[pool] = torch.minimum(self.bounds[pool], nearest)
                pool, rows, nearest, begin = pool[keep], rows.index_select(0, keep), nearest[keep], begin[keep]
            start = end
        return pool[nearest > floor]

    def _spread(self, chosen: list[int], floor: float) -> None:
        """Lower the bounds of the points around the last picks, which may enter the pool soon."""
        if self.vicinity is None or not chosen:
            return
        points = self.points[self.order[self.picked - len(chosen) : self.picked]]
        for members, picks in self.vicinity.add(self.picked - len(chosen), points, AROUND, WAITING):
            centres = self.rounded[picks].T
            for part in members[self.bounds[members] > LOW * floor].split(ROWS):
                bounds = torch.mm(self._rounded(part), centres).amin(dim=1).double() / self.scale**2
                self.bounds[part] = torch.minimum(self.bounds[part], bounds)

    def _lifted(self, pool: Tensor) -> Tensor:
        """float64 (n, D + 2) from the origin, (x, |x|^2, 1): times (-2c, 1, |c|^2) they give a squared distance. Or (n, D), the
        points themselves, where distances are computed from differences."""
        points = self.points.index_select(0, pool).double()
        if self.direct:
            return points
        x = points - self.origin
        return torch.cat([x, x.square().sum(dim=1, keepdim=True), torch.ones_like(x[:, :1])], dim=1)

    def _rounded(self, pool: Tensor) -> Tensor:
        """float32 (n, D + 2), the same scaled, with norms that are large enough for all rounding.

        With u = 2^-24, coordinates are off by u of themselves, norms by (D + 5) u, and a sum of D + 2 products by (D + 2) u of
        the sum of their sizes (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1), which is at most
        2 |x|^2 + 2 |c|^2. All of it is below the margin's share of |x|^2 + |c|^2.
        """
        x = self.points.index_select(0, pool).to(self.shift.dtype).mul_(self.scale).sub_(self.shift)
        rows = torch.ones(len(x), x.shape[1] + 2, device=x.device)
        rows[:, :-2] = x
        rows[:, -2] = torch.linalg.vector_norm(x, dim=1).square_().mul_(self.margin).add_(TINY)
        return rows

    def _add(self, indices: list[int]) -> None:
        part = slice(self.picked, self.picked + len(indices))
        self.order[part] = torch.tensor(indices, dtype=torch.long)
        if not self.direct:
            self.centres[part] = _turned(self._lifted(self.order[part]))
        self.rounded[part] = _turned(self._rounded(self.order[part]))
        self.picked += len(indices)

    def _at_most(self, rows: Tensor, start: int, end: int) -> Tensor:
        """float64 (n,) bounds of the squared distances of rounded rows to their nearest of some picks."""
        out = self.distances[: len(rows) * (end - start)].view(len(rows), end - start)
        torch.mm(rows, self.rounded[start:end].T, out=out)
        return out.amin(dim=1).double() / self.scale**2

    def _squared(self, lifted: Tensor, start: int, end: int) -> Tensor:
        """float64 (n,) squared distances of lifted points to their nearest of some picks."""
        if self.direct:
            return _differences(lifted, self.points[self.order[start:end]].double()).amin(dim=1)
        return (lifted @ self.centres[start:end].T).amin(dim=1).clamp_(min=0)

    def _between(self, lifted: Tensor, others: Tensor) -> Tensor:
        """float64 (n, m) squared distances."""
        return _differences(lifted, others) if self.direct else (lifted @ _turned(others).T).clamp_(min=0)

    def _turn_direct(self) -> None:
        """From now on, compute distances from differences of the original points."""
        self.direct = True
        alive = self.bounds >= 0
        self.bounds[alive] += TIE * self.largest  # bounds again, whatever the rounding was
        self.exact.fill_(torch.inf)
        if self.known is not None:
            self.exact.copy_(self.known)
        self.exact_seen.zero_()

    def _copies(self) -> Tensor:
        """Indices of the points that equal one of lower index."""
        weights = torch.arange(1.0, self.points.shape[1] + 1, dtype=torch.float64, device=self.points.device).sin()
        keys, order = self._rowwise(lambda part: (part * weights).sum(dim=1)).sort(stable=True)
        suspects = (keys[1:] == keys[:-1]).nonzero()[:, 0]
        same = [
            (self.points[order[part]] == self.points[order[part + 1]]).all(dim=1)
            for part in suspects.split(max(1, CELLS // self.points.shape[1]))
        ]
        return order[suspects[torch.cat(same)] + 1] if same else suspects

    def _rowwise(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A float64 value per point, computed without a float64 copy of all points."""
        parts = self.points.split(max(1, CELLS // self.points.shape[1]))
        return torch.cat([function(part.double()) for part in parts])


def _largest(bounds: Tensor, count: int) -> tuple[Tensor, float]:
    """Indices of the ``count`` largest that are not below 0, all ties of the last included, and the largest of the others."""
    values = bounds.cpu().numpy()
    rest = max(len(values) - count, 0)
    parted = np.partition(values, rest)  # several times faster than torch's topk
    threshold = max(parted[rest], 0.0)
    others = parted[parted < threshold]
    return torch.from_numpy(np.flatnonzero(values >= threshold)).to(bounds.device), float(others.max(initial=-1))


def _turned(lifted: Tensor) -> Tensor:
    """(x, |x|^2, 1) as (-2x, 1, |x|^2)."""
    return torch.cat([-2 * lifted[:, :-2], lifted[:, -1:], lifted[:, -2:-1]], dim=1)


def _differences(points: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square_()


def _is_blurred(value: float, floor: float, squared: npt.NDArray[np.float64], norm: float) -> bool:
    """Whether rounding may hide which point is the farthest."""
    tie = value - TIE * norm
    return value <= CLOSE * norm or floor >= tie or int(np.count_nonzero(squared >= tie)) > 1


def _precision() -> float:
    """What a float32 product may lose by rounding its factors."""
    return 2.0**-24 if torch.get_float32_matmul_precision() == "highest" else 2.0**-9
