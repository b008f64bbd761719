"""The anomalies of training: Gaussian noise on features, in blots of Perlin noise, beside those that are known."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_CELLS = 5  # of Perlin noise: up to 2^5 a side
OnDefects = Literal["everywhere", "beside", "never"]


def perlin_noise(angles: Tensor, cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient noise (Perlin, "Improving noise", SIGGRAPH 2002), times the square root of 2.

    Args:
        angles: float (B, M + 1, M + 1), the direction in radians of the gradient at each corner of a cell, 0 pointing down; of
            an image with fewer than M cells only the first corners are used.
        cells: int64 (B, 2), cells down and across, at most M.
        size: (H, W).

    Returns:
        float (B, H, W).
    """
    image = torch.arange(len(angles), device=angles.device)[:, None, None]
    steps = [torch.arange(side, device=angles.device) * cells[:, axis, None] for axis, side in enumerate(size)]  # (B, side)
    (row, column), (y, x) = (
        [step // side for step, side in zip(steps, size, strict=True)],
        [(step % side).to(angles.dtype) / side for step, side in zip(steps, size, strict=True)],
    )
    row, column, y, x = row[:, :, None], column[:, None, :], y[:, :, None], x[:, None, :]

    def ramp(down: int, across: int) -> Tensor:
        angle = angles[image, row + down, column + across]  # (B, H, W)
        return angle.cos() * (y - down) + angle.sin() * (x - across)

    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (y, x))
    left, right = (torch.lerp(ramp(0, across), ramp(1, across), fade_y.expand(-1, -1, size[1])) for across in (0, 1))
    return math.sqrt(2) * torch.lerp(left, right, fade_x.expand(-1, size[0], -1))


def random_blots(count: int, size: tuple[int, int], threshold: float) -> Tensor:
    """Where Perlin noise exceeds a threshold; half of the images, at random, have no blot.

    Args:
        size: (h, w) of a feature map. The noise is made at the next powers of two and resized bilinearly.

    Returns:
        bool (count, 1, h, w) on the CPU, drawn from torch's global generator.
    """
    cells = 2 ** torch.randint(MOST_CELLS + 1, (count, 2))
    angles = 2 * math.pi * torch.rand(count, 2**MOST_CELLS + 1, 2**MOST_CELLS + 1)
    height, width = (1 << (side - 1).bit_length() for side in size)
    noise = F.interpolate(perlin_noise(angles, cells, (height, width))[:, None], size, mode="bilinear", align_corners=False)
    return (noise > threshold) & (torch.rand(count) <= 0.5).view(-1, 1, 1, 1)


def with_noise(
    features: Tensor, masks: Tensor, labels: Tensor, noise: Tensor, places: Tensor, on_defects: OnDefects = "everywhere"
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch twice, with noise in places, which are anomalous then.

    Args:
        features: float (B, C, h, w), adapted.
        masks: bool (B, 1, h, w), the cells that are defective already.
        labels: bool (B,), the images that are anomalous already.
        noise: float (2B, C, h, w).
        places: bool (2B, 1, h, w), where it is added.
        on_defects: whether it is added everywhere, ``beside`` defective cells, or ``never`` to images that are anomalous.

    Returns:
        features (2B, C, h, w), masks bool (2B, 1, h, w), labels bool (2B,).
    """
    features, masks, labels = (torch.cat([part, part]) for part in (features, masks, labels))
    if on_defects == "never":
        places = places & ~labels.view(-1, 1, 1, 1)
    if on_defects != "everywhere":
        places = places & ~masks
    masks = masks | places
    return features + noise * places, masks, labels | masks.flatten(1).any(dim=1)


def at_features(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks bool or float (B, 1, H, W) -> bool (B, 1, h, w): bilinear, 1 where at least one half."""
    return F.interpolate(masks.float(), size, mode="bilinear", align_corners=False) >= 0.5
