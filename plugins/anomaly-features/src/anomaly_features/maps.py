"""The last step of every anomaly map: upsampling and smoothing, as in the original implementations."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SIDE = 1024  # up to this side, two matrix products smooth a map faster than two convolutions; ten times at 224


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
        return _both_ways(maps, _smoothing(height, sigma, truncate), _smoothing(width, sigma, truncate))
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows, columns = _reflect(height, radius, maps.device), _reflect(width, radius, maps.device)
    smoothed = F.conv2d(maps[:, :, rows, :], kernel.view(1, 1, -1, 1))
    return F.conv2d(smoothed[:, :, :, columns], kernel.view(1, 1, 1, -1))


def upsample_smooth(maps: Tensor, size: tuple[int, int], sigma: float, truncate: float = 4.0) -> Tensor:
    """:func:`upsample`, then :func:`gaussian_smooth`. Both are linear and separable over rows and columns, so two small
    matrix products compute them in a tenth of the time.

    Args:
        maps: float (B, 1, h, w).
        size: (H, W).
        sigma, truncate: of the Gaussian; ``sigma`` in pixels of the upsampled map.

    Returns:
        (B, 1, H, W).
    """
    if sigma <= 0 or max(size) > SIDE:
        return gaussian_smooth(upsample(maps, size), sigma, truncate)
    height, width = int(maps.shape[-2]), int(maps.shape[-1])
    return _both_ways(maps, _enlarging(height, size[0], sigma, truncate), _enlarging(width, size[1], sigma, truncate))


def _both_ways(maps: Tensor, down: NDArray[np.float64], across: NDArray[np.float64]) -> Tensor:
    """(B, 1, h, w) maps multiplied by a (H, h) and a (W, w) matrix."""
    return torch.from_numpy(down).to(maps) @ maps @ torch.from_numpy(across).to(maps).T


def _reflect(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of a half-sample reflected border (d c b a | a b c d | d c b a), for a radius of any size."""
    period = torch.arange(-radius, length + radius, device=device).remainder(2 * length)
    return torch.where(period < length, period, 2 * length - 1 - period)


@lru_cache(maxsize=16)
def _enlarging(before: int, after: int, sigma: float, truncate: float) -> NDArray[np.float64]:
    """(after, before): the weight of each value of a line in each value after upsampling and smoothing."""
    lines = torch.eye(before, dtype=torch.float64)[None, None]
    enlarged: NDArray[np.float64] = _smoothing(after, sigma, truncate) @ upsample(lines, (after, before))[0, 0].numpy()
    return enlarged


@lru_cache(maxsize=16)
def _smoothing(length: int, sigma: float, truncate: float) -> NDArray[np.float64]:
    """(length, length): the weight of each value of a line in each smoothed value."""
    radius = int(truncate * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    border = _reflect(length, radius, torch.device("cpu")).numpy()
    places = border[np.arange(length)[:, None] + np.arange(2 * radius + 1)]  # (length, taps)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], places), np.broadcast_to(kernel / kernel.sum(), places.shape))
    return matrix
