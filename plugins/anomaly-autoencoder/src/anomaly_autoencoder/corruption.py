"""Noise that a network is trained to remove: smooth blots of any place and several sizes.

Idea: Kascenas et al., "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", MIDL 2022,
https://openreview.net/forum?id=Bm8-t_ggzPD
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def add_blots(images: Tensor, strength: float, cells: Sequence[int], share: float) -> Tensor:
    """Images with coloured, smooth noise in some places, which torch's global generator draws.

    Args:
        images: float (B, 3, H, W).
        strength: standard deviation of the noise.
        cells: sizes of the blots in pixels; each image gets one of them.
        share: of the image that gets noise, on average.

    Returns:
        float (B, 3, H, W), not cut to [0, 1].
    """
    return torch.stack([_blotted(image, strength, cells, share) for image in images])


def _blotted(image: Tensor, strength: float, cells: Sequence[int], share: float) -> Tensor:
    cell = cells[int(torch.randint(len(cells), ()))]
    noise = _smooth_noise(image, 3, cell)
    where = _smooth_noise(image, 1, 2 * cell)
    return image + strength * noise * (where >= where.flatten().quantile(1 - share))


def _smooth_noise(image: Tensor, channels: int, cell: int) -> Tensor:
    """(channels, H, W) noise of unit variance at the cells' centres, interpolated between them from a random offset."""
    height, width = image.shape[-2:]
    coarse = torch.randn(1, channels, height // cell + 2, width // cell + 2).to(image)
    noise = F.interpolate(coarse, scale_factor=cell, mode="bilinear", align_corners=False)[0]
    top, left = (int(torch.randint(cell, ())) for _ in range(2))
    return noise[:, top : top + height, left : left + width]
