"""The shared tail of every anomaly map: upsample and smooth, as the originals do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows = _reflect(maps.shape[-2], radius, maps.device)
    columns = _reflect(maps.shape[-1], radius, maps.device)
    smoothed = F.conv2d(maps[:, :, rows, :], kernel.view(1, 1, -1, 1))
    return F.conv2d(smoothed[:, :, :, columns], kernel.view(1, 1, 1, -1))


def _reflect(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of a half-sample reflected border (d c b a | a b c d | d c b a), for a radius of any size."""
    period = torch.arange(-radius, length + radius, device=device).remainder(2 * length)
    return torch.where(period < length, period, 2 * length - 1 - period)
