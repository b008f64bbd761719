"""PSNR, SSIM and LPIPS of image pairs as pure functions, one value an image; and SSIM as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytorch_msssim  # type: ignore[import-untyped]  # ships no annotations
import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from lpips import LPIPS  # type: ignore[import-untyped]  # ships no annotations

WINDOW, SIGMA = 11, 1.5  # SSIM's Gaussian window, in pixels
STABILISERS = (0.01**2, 0.03**2)  # SSIM's constants at a data range of 1
SMALLEST_LPIPS = 16  # VGG16 halves the sides four times


def psnr(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Peak signal-to-noise ratio: ``-10 log10(MSE)``.

    Args:
        reconstruction, images: float (B, C, H, W) in [0, 1].

    Returns:
        float (B,) in dB, infinite where the two are identical.

    >>> psnr(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5))
    tensor([20.])
    """
    return -10 * (reconstruction - images).square().flatten(1).mean(dim=1).log10()


def ssim(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Structural similarity in an 11x11 Gaussian window of sigma 1.5, mean over channels and whole windows.

    Args:
        reconstruction, images: float (B, C, H, W) in [0, 1], both sides at least 11.

    Returns:
        float (B,), 1 where the two are identical. Source: ``pytorch_msssim`` at a data range of 1.
    """
    similarity: Tensor = pytorch_msssim.ssim(reconstruction, images, data_range=1.0, size_average=False, win_size=WINDOW)
    return similarity


def ssim_map(reconstruction: Tensor, images: Tensor) -> Tensor:
    """:func:`ssim` before its mean over the pixels, with the border mirrored so that every pixel has a value.

    Args:
        reconstruction, images: float (B, C, H, W) in [0, 1], both sides at least 6.

    Returns:
        float (B, 1, H, W), mean over channels.
    """
    batch, channels = images.shape[:2]
    x, y = reconstruction.flatten(0, 1)[:, None], images.flatten(0, 1)[:, None]  # (B, C, H, W) -> (B * C, 1, H, W)
    mean_x, mean_y, square_x, square_y, product = _windowed(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    variances = square_x - mean_x**2 + square_y - mean_y**2
    covariance = product - mean_x * mean_y
    first, second = STABILISERS
    similarity = (2 * mean_x * mean_y + first) * (2 * covariance + second)
    similarity = similarity / ((mean_x**2 + mean_y**2 + first) * (variances + second))
    return similarity.view(batch, channels, *images.shape[-2:]).mean(dim=1, keepdim=True)


def lpips(reconstruction: Tensor, images: Tensor, network: LPIPS) -> Tensor:
    """Learned perceptual distance.

    Args:
        reconstruction, images: float (B, 3, H, W) in [0, 1], both sides at least 16.
        network: of :func:`anomaly_autoencoder.perceptual.perceptual_network`.

    Returns:
        float (B,), 0 where the two are identical.
    """
    distances: Tensor = network(2 * reconstruction - 1, 2 * images - 1)  # lpips wants [-1, 1]
    return distances.flatten()


def _windowed(values: Tensor) -> Tensor:
    """(N, 1, H, W) averaged in SSIM's window, the border mirrored."""
    radius = WINDOW // 2
    offsets = torch.arange(-radius, radius + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    values = F.pad(values, (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(values, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
