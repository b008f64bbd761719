"""Greedy k-center selection: the subset whose farthest point is nearest (Sener & Savarese, ICLR 2018; PatchCore, algorithm 1)."""

from __future__ import annotations

import torch
from anomaly_core.errors import AnomalyError, ConfigError
from torch import Tensor


def k_center_greedy(points: Tensor, count: int, first: int = 0) -> Tensor:
    """Choose centres one by one, each the point that is farthest from those chosen before; exact.

    Args:
        points: float (N, D).
        count: how many centres, 1 to N. Duplicates of chosen points come last.
        first: index of the first centre.

    Returns:
        LongTensor (count,), indices in the order of choice, each once.

    Raises:
        ConfigError: ``count`` or ``first`` is out of range.
        AnomalyError: a point is NaN or infinite.
    """
    total = len(points)
    if not 1 <= count <= total or not 0 <= first < total:
        raise ConfigError(f"a coreset of {count} from {total} points, starting at {first}: choose 1 to {total}, starting below {total}.")
    if not torch.isfinite(points).all():
        raise AnomalyError("a coreset needs finite points, and some are NaN or infinite. Check the images and the backbone's weights.")
    chosen = torch.empty(count, dtype=torch.long)
    nearest = torch.full((total,), torch.inf, dtype=points.dtype, device=points.device)
    difference = torch.empty_like(points)
    current = first
    for index in range(count):
        chosen[index] = current
        torch.sub(points, points[current], out=difference)  # exact where |x|^2 - 2xy + |y|^2 would cancel
        torch.minimum(nearest, difference.square_().sum(dim=1), out=nearest)
        nearest[current] = -1  # below every distance: no point is chosen twice, not even among duplicates
        current = int(nearest.argmax())
    return chosen


def coverage_radius(points: Tensor, centres: Tensor, chunk: int = 4096) -> float:
    """The greatest L2 distance of a point (N, D) to its nearest centre (K, D)."""
    return max(float(torch.cdist(part, centres).amin(dim=1).max()) for part in points.split(chunk))
