"""Turned copies of a few images, so that a memory of them knows more than their one position."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def rotated(
    images: Tensor,
    degrees: Tensor,
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    border: Literal["reflection", "zeros"] = "reflection",
    half: bool = False,
) -> Tensor:
    """Each image turned counter-clockwise about its centre, at the same size.

    Args:
        images: float (B, 3, H, W).
        degrees: (B,).
        mode: how values between pixels are read.
        border: what corners show that no pixel turns into: the image mirrored at the middle of its outer pixels, or black.
        half: turn about (W / 2, H / 2) in pixels counted from 0 at the middle of the first one, half a pixel beside the centre.

    Returns:
        float (B, 3, H, W).
    """
    height, width = int(images.shape[-2]), int(images.shape[-1])
    angles = torch.deg2rad(degrees.to(images.device, torch.float64))
    across, down = ((side if half else side - 1) / 2 for side in (width, height))
    x = torch.arange(width, dtype=torch.float64, device=images.device) - across
    y = (torch.arange(height, dtype=torch.float64, device=images.device) - down)[:, None]
    cosine, sine = angles.cos()[:, None, None], angles.sin()[:, None, None]
    source_x, source_y = cosine * x - sine * y + across, sine * x + cosine * y + down  # (B, H, W)
    # grid_sample counts from -1 at the middle of the first pixel to 1 at that of the last
    places = torch.stack([2 * source_x / max(1, width - 1) - 1, 2 * source_y / max(1, height - 1) - 1], dim=-1)
    return F.grid_sample(images, places.to(images), mode=mode, padding_mode=border, align_corners=True)
