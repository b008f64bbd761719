"""Greedy k-center: a few points such that no point is far from all of them (Gonzalez, 1985), exact and without the plain loop.

The plain loop computes the distance of every point to every pick. But a point's distance to its nearest pick only shrinks, so
an old distance is an upper bound: only points whose bound is among the largest can be picked next. So

1. the few thousand points with the largest bounds are the pool; the largest bound outside of it is its floor;
2. each point of the pool is compared, by matrix products, with the picks it has not seen; points at the floor leave the pool;
3. points are picked from the remaining pool, as long as its largest distance is above the floor.

Nothing is sampled or rounded away: all is computed in float64, and from differences of coordinates (several times slower)
as soon as cancellation in the products could hide which point is the farthest: in ties, and where what is left is nearly
copies of the picks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, Progress, quiet

POOL = 4096  # points that may be picked in a round
BLOCK = 256  # picks that a pool is compared with at once; also after how many a point may leave
CELLS = 2**20  # distances, or coordinates as float64, that are held at once
CLOSE = 1e-8  # |x|^2 - 2xc + |c|^2 is trusted above this share of |x|^2,
TIE = 1e-12  # and to this share of |x|^2; what is closer, or as near to another, is computed from differences


def k_center_greedy(points: Tensor, count: int, first: int = 0, progress: Progress = quiet) -> Tensor:
    """Pick points one by one, each the farthest from the points already picked.

    Exact: distances are compared in float64. Of several farthest points, the one with the lowest index is picked, as
    ``argmax`` does. If there are fewer distinct points than ``count``, all distinct points come first, then duplicates from the
    lowest index on.

    Args:
        points: float (N, D), of any precision.
        count: how many to pick, 1 to N.
        first: index of the first pick.
        progress: shows the picks; silent by default.

    Returns:
        int64 (count,): distinct indices in the order of picking, on the points' device.

    Raises:
        ConfigError: ``count`` or ``first`` is out of range, or the points are no (N, D) matrix.
        DataError: a point is not finite.
    """
    return k_center_greedy_with_radius(points, count, first, progress)[0]


def k_center_greedy_with_radius(points: Tensor, count: int, first: int = 0, progress: Progress = quiet) -> tuple[Tensor, float]:
    """:func:`k_center_greedy`, and the largest Euclidean distance of any point to its nearest pick, 0 where all are picked."""
    _check(points, count, first)
    device = points.device
    if device.type == "mps":  # knows no float64
        points = points.cpu()
    order = _Search(points, first, min(count + 1, len(points))).picks()
    picked = torch.tensor(list(progress(islice(order, count), "choosing the coreset", count)), device=points.device)
    farthest = next(order, None)
    if farthest is None:
        radius = 0.0
    else:
        centres, point = points[picked], points[farthest].double()
        radius = min(float((part.double() - point).square().sum(dim=1).min()) for part in centres.split(POOL)) ** 0.5
    if len(picked) < count:
        rest = torch.ones(len(points), dtype=torch.bool, device=points.device)
        rest[picked] = False
        picked = torch.cat([picked, rest.nonzero()[: count - len(picked), 0]])
    return picked.to(device), radius


def k_center_continued(points: Tensor, squared: Tensor, count: int) -> Tensor:
    """Go on with a greedy k-center whose picks so far are elsewhere, such as in a finished memory bank.

    Args:
        points: float (N, D), of any precision.
        squared: float (N,): the squared distance of each to its nearest pick so far; at 0 it is not picked.
        count: how many more to pick, at least 1.

    Returns:
        int64 (n,): distinct indices in the order of picking; fewer than ``count`` where no other point differs from all picks.

    Raises:
        DataError: a point is not finite.
    """
    first = int(squared.argmax())
    _check(points, count=1, first=first)
    device = points.device
    if device.type == "mps":  # knows no float64
        points, squared = points.cpu(), squared.cpu()
    if not float(squared[first]):
        return torch.empty(0, dtype=torch.long, device=device)
    search = _Search(points, first, min(count, len(points)), squared.to(torch.float64))
    return torch.tensor(list(islice(search.picks(), count)), device=device)


class _Search:
    """The state of one search: for each point, an upper bound of its squared distance and the number of picks compared."""

    def __init__(self, points: Tensor, first: int, capacity: int, known: Tensor | None = None) -> None:
        self.points = points
        self.first = first
        # A point near the mean as origin makes norms, and so rounding, small; a point rather than the mean itself, so that
        # distances between points on a grid stay exact, and so do their ties.
        some = points[:: max(1, len(points) // 1024)].double()
        self.origin = some[(some - some.mean(dim=0)).square().sum(dim=1).argmin()]
        self.norms = self._rowwise(lambda part: (part - self.origin).square().sum(dim=1))
        start = points[first].double()
        self.bounds = self._rowwise(lambda part: (part - start).square().sum(dim=1))  # -1: picked, or a copy of another point
        self.bounds[self._copies()] = -1
        if known is not None:  # squared distances to picks of an earlier search
            self.bounds = torch.minimum(self.bounds, known).masked_fill(known == 0, -1)
        self.seen = torch.ones(len(points), dtype=torch.long, device=points.device)
        self.centres = torch.empty(capacity, points.shape[1] + 2, dtype=torch.float64, device=points.device)
        self.order = torch.empty(capacity, dtype=torch.long, device=points.device)
        self.picked = 0
        self.direct = False

    def picks(self) -> Iterator[int]:
        """Indices in the order of picking, until no point is left that differs from all picks."""
        self._add(self.first)
        self.bounds[self.first] = -1
        yield self.first
        while True:
            pool, floor = self._pool()
            if not len(pool):
                return
            pool, lifted, squared = self._refresh(pool, floor)
            indices, blurred = pool.tolist(), False
            while indices and not blurred:
                largest, argmax = squared.max(dim=0)  # the first of equal ones; the pool is in order
                value, row = float(largest), int(argmax)
                if value <= floor:
                    break
                if value == 0 and self.direct:
                    return
                blurred = not self.direct and self._is_blurred(value, floor, squared, float(lifted[row, -2]))
                if not blurred:
                    self._add(indices[row])
                    torch.minimum(squared, self._squared(lifted, self.picked - 1, self.picked)[:, 0], out=squared)
                    squared[row] = -1
                    yield indices[row]
            self.bounds[pool] = squared
            self.seen[pool] = self.picked
            if blurred:
                self._turn_direct()

    def _pool(self) -> tuple[Tensor, float]:
        """The points with the largest bounds, ties at the end of the list included, and the largest bound of the others."""
        threshold = self.bounds.topk(min(POOL, len(self.bounds)), sorted=False).values.min().clamp(min=0)
        inside = self.bounds >= threshold
        return inside.nonzero()[:, 0], float(self.bounds.masked_fill(inside, -1).max())

    def _refresh(self, pool: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
        """The pool's points above the floor: indices, ascending, with lifted coordinates and true squared distances."""
        seen, order = self.seen[pool].sort(descending=True)
        pool = pool[order]
        lifted, squared = self._lift(pool), self.bounds[pool]
        start = int(seen[-1])
        while start < self.picked and len(pool):
            end = min(start + BLOCK, self.picked)
            behind = int((seen < end).sum())  # the last rows, as they are in descending order
            for row in range(len(pool) - behind, len(pool), CELLS // BLOCK):
                part = slice(row, row + CELLS // BLOCK)
                nearest = self._squared(lifted[part], start, end).amin(dim=1)
                squared[part] = torch.minimum(squared[part], nearest)
            seen = seen.clamp(min=end)
            self.bounds[pool], self.seen[pool] = squared, seen
            keep = (squared > floor).nonzero()[:, 0]
            if end == self.picked or 2 * len(keep) < len(pool):
                pool, lifted, squared, seen = pool[keep], lifted[keep], squared[keep], seen[keep]
            start = end
        order = pool.argsort()
        return pool[order], lifted[order], squared[order]

    def _lift(self, pool: Tensor) -> Tensor:
        """Coordinates from the origin with two more, (x, |x|^2, 1): times (-2c, 1, |c|^2) they give a squared distance."""
        x = self.points[pool].double() - self.origin
        return torch.cat([x, self.norms[pool, None], torch.ones_like(x[:, :1])], dim=1)

    def _add(self, index: int) -> None:
        self.order[self.picked] = index
        self._write(slice(self.picked, self.picked + 1))
        self.picked += 1

    def _write(self, part: slice) -> None:
        lifted = self._lift(self.order[part])
        self.centres[part, :-2] = -2 * lifted[:, :-2]
        self.centres[part, -2], self.centres[part, -1] = 1, lifted[:, -2]

    def _squared(self, lifted: Tensor, start: int, end: int) -> Tensor:
        """Squared distances (n, end - start) of lifted points to some of the picks."""
        centres = self.centres[start:end]
        if self.direct:
            mode = "donot_use_mm_for_euclid_dist"
            return torch.cdist(lifted[:, :-2], centres[:, :-2] / -2, compute_mode=mode).square_()
        return (lifted @ centres.T).clamp_(min=0)

    def _is_blurred(self, value: float, floor: float, squared: Tensor, norm: float) -> bool:
        """Whether rounding may hide which point is the farthest."""
        tie = value - TIE * norm
        return value <= CLOSE * norm or floor >= tie or int((squared >= tie).sum()) > 1

    def _turn_direct(self) -> None:
        """From now on, compute distances from differences of the original points."""
        self.direct = True
        alive = self.bounds >= 0
        self.bounds[alive] += TIE * self.norms.max()  # bounds again, whatever the rounding was
        self.seen.zero_()
        self.origin = torch.zeros_like(self.origin)
        for start in range(0, self.picked, POOL):
            self._write(slice(start, min(start + POOL, self.picked)))

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


def _check(points: Tensor, count: int, first: int) -> None:
    if points.ndim != 2 or not len(points) or not points.shape[1]:
        raise ConfigError(f"k_center_greedy: points have shape {tuple(points.shape)}, expected (N, D) with N, D >= 1.")
    if not 1 <= count <= len(points) or not 0 <= first < len(points):
        raise ConfigError(
            f"k_center_greedy: count={count}, first={first} with {len(points)} points: choose 1 to {len(points)} for count "
            f"and 0 to {len(points) - 1} for first."
        )
    finite = points.isfinite().all(dim=1)
    if not finite.all():
        raise DataError(
            f"k_center_greedy: {int((~finite).sum())} of {len(points)} points hold NaN or infinity, the first at index "
            f"{int(finite.logical_not().nonzero()[0])}. Check the images and the backbone's weights."
        )
