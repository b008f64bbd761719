"""The shared tail of every anomaly map: upsample and smooth, as the originals do."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SIDE = 1024  # up to which two matrix products smooth a map faster than two convolutions; ten times at 224


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, h, w) -> (B, 1, H, W), bilinear with ``align_corners=False``."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def gaussian_smooth(maps: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Separable Gaussian of float (B, 1, H, W) maps, equal to ``scipy.ndimage.gaussian_filter`` (half-sample reflect).

    Args:
        maps: (B, 1, H, W).
        sigma: standard deviation in pixels; 0 returns the maps unchanged.
        truncate: the radius in standard deviations (scipy's default: 4, so radius 16 for sigma 4).
    """
    if sigma <= 0:
        return maps
    height, width = int(maps.shape[-2]), int(maps.shape[-1])
    if max(height, width) <= SIDE:
        down, across = (torch.from_numpy(_smoothing(side, sigma, truncate)).to(maps) for side in (height, width))
        return down @ maps @ across.T
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows, columns = _reflect(height, radius, maps.device), _reflect(width, radius, maps.device)
    smoothed = F.conv2d(maps[:, :, rows, :], kernel.view(1, 1, -1, 1))
    return F.conv2d(smoothed[:, :, :, columns], kernel.view(1, 1, 1, -1))


def _reflect(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of a half-sample reflected border (d c b a | a b c d | d c b a), for a radius of any size."""
    period = torch.arange(-radius, length + radius, device=device).remainder(2 * length)
    return torch.where(period < length, period, 2 * length - 1 - period)


@lru_cache(maxsize=16)
def _smoothing(length: int, sigma: float, truncate: float) -> NDArray[np.float64]:
    """(length, length): how much each value of a line counts in each of its smoothed values."""
    radius = int(truncate * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    border = _reflect(length, radius, torch.device("cpu")).numpy()
    places = border[np.arange(length)[:, None] + np.arange(2 * radius + 1)]  # (length, taps)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], places), np.broadcast_to(kernel / kernel.sum(), places.shape))
    return matrix
