"""Greedy k-center: a few points such that no point is far from all of them (Gonzalez, 1985), exact without the plain loop."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, Progress, quiet
from anomaly_patchcore.farthest import POOL, FarthestFirst


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
    order = FarthestFirst(points, first, min(count + 1, len(points))).picks()
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
    search = FarthestFirst(points, first, min(count, len(points)), squared.to(torch.float64))
    return torch.tensor(list(islice(search.picks(), count)), device=device)


def _check(points: Tensor, count: int, first: int) -> None:
    if points.ndim != 2 or not len(points) or not points.shape[1]:
        raise ConfigError(f"k_center_greedy: points have shape {tuple(points.shape)}, expected (N, D) with N, D >= 1.")
    if not 1 <= count <= len(points) or not 0 <= first < len(points):
        raise ConfigError(
            f"k_center_greedy: count={count}, first={first} with {len(points)} points: choose 1 to {len(points)} for count "
            f"and 0 to {len(points) - 1} for first."
        )
    finite = torch.cat([part.isfinite().all(dim=1) for part in points.split(POOL)])  # of all at once, it holds them twice
    if not finite.all():
        raise DataError(
            f"k_center_greedy: {int((~finite).sum())} of {len(points)} points hold NaN or infinity, the first at index "
            f"{int(finite.logical_not().nonzero()[0])}. Check the images and the backbone's weights."
        )
