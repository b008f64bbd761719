"""DRAEM's losses beside the mean squared error: structural similarity, and focal loss on every pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ssim_loss(images: Tensor, targets: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """One minus the mean structural similarity, with a Gaussian window over zero-padded images.

    Args:
        images, targets: float (B, C, H, W) with values that range over 1.
        window: side of the window in pixels, odd.
        sigma: of its Gaussian, in pixels.

    Returns:
        float32 ().
    """
    channels = images.shape[1]
    offsets = torch.arange(window, device=images.device, dtype=torch.float32) - window // 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()

    def local_mean(values: Tensor) -> Tensor:
        rows = F.conv2d(values, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), padding=(window // 2, 0), groups=channels)
        return F.conv2d(rows, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), padding=(0, window // 2), groups=channels)

    x, y = images.float(), targets.float()
    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x**2
    variance_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return 1 - (luminance * structure).mean()


def focal_loss(probability: Tensor, masks: Tensor, gamma: float = 2.0, smooth: float = 1e-5) -> Tensor:
    """Mean focal loss over all pixels, the normal ones included: both classes weigh the same.

    Args:
        probability: float (B, 1, H, W), of each pixel to be anomalous.
        masks: (B, 1, H, W), 1 where it is.
        gamma: how strongly well-classified pixels are played down.
        smooth: share of the target given to the other class, and added to the probability before its logarithm.

    Returns:
        float32 ().
    """
    likely = torch.where(masks > 0.5, probability.float(), 1 - probability.float())  # of the pixel's own class
    smoothed = (1 - smooth) * likely + smooth * (1 - likely) + smooth
    return -((1 - smoothed) ** gamma * smoothed.log()).mean()
