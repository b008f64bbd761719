"""Greedy k-center: a few points such that no point is far from all of them (Gonzalez, 1985)."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_core.errors import ConfigError, DataError

# A squared distance by |x|^2 - 2xc + |c|^2 errs by a few roundings of |x|^2; what is smaller is computed directly.
NOISE = 32


def k_center_greedy(points: Tensor, count: int, first: int = 0) -> Tensor:
    """Pick points one by one, each the farthest from those already picked.

    Exact up to float rounding: no sampling, no approximate distances. Where there are fewer distinct points than ``count``,
    all distinct points come first and duplicates fill up.

    Args:
        points: float (N, D); computed in float32, or float64 where they are.
        count: how many to pick, 1 to N.
        first: index of the first pick.

    Returns:
        int64 (count,): distinct indices in the order of picking, on the points' device.

    Raises:
        ConfigError: ``count`` or ``first`` is out of range, or the points are no (N, D) matrix.
        DataError: a point is not finite.
    """
    return k_center_greedy_with_radius(points, count, first)[0]


def k_center_greedy_with_radius(points: Tensor, count: int, first: int = 0) -> tuple[Tensor, float]:
    """:func:`k_center_greedy`, and the largest Euclidean distance of any point to its nearest pick."""
    points = _checked(points, count, first)
    points = points - points.mean(dim=0)  # smaller norms, smaller rounding
    norms = (points * points).sum(dim=1)
    noise = NOISE * torch.finfo(points.dtype).eps * float(norms.max())
    picked = torch.empty(count, dtype=torch.long, device=points.device)
    nearest = torch.full_like(norms, torch.inf)  # squared distance to the nearest pick, -1 for the picks themselves
    direct = False
    pick = torch.tensor(first, device=points.device)
    for i in range(count):
        picked[i] = pick
        centre = points[pick]
        squared = (
            (points - centre).square_().sum(dim=1) if direct else torch.addmv(norms + norms[pick], points, centre, alpha=-2)
        )
        nearest = torch.minimum(nearest, squared.clamp_(min=0))
        nearest[picked[: i + 1] if direct else pick] = -1
        value, pick = nearest.max(dim=0)
        if not direct and float(value) <= noise and i + 1 < count:
            direct = True
            nearest = _direct_distances(points, picked[: i + 1])
            pick = nearest.argmax()
    # the last radius is taken from differences, so that it does not carry the rounding of large norms
    last = int(nearest.argmax())
    radius = float((points[picked] - points[last]).square().sum(dim=1).min().sqrt())
    return picked, radius


def _direct_distances(points: Tensor, picked: Tensor) -> Tensor:
    """Squared distances (N,) to the nearest pick from differences, exactly 0 for duplicates; -1 for the picks."""
    nearest = torch.full_like(points[:, 0], torch.inf)
    for index in picked:
        nearest = torch.minimum(nearest, (points - points[index]).square_().sum(dim=1))
    nearest[picked] = -1
    return nearest


def _checked(points: Tensor, count: int, first: int) -> Tensor:
    if points.ndim != 2 or not len(points):
        raise ConfigError(f"k_center_greedy: points have shape {tuple(points.shape)}, expected (N, D) with N >= 1.")
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
    return points if points.dtype == torch.float64 else points.float()
