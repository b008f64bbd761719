"""Turning, shifting and enlarging the images of a batch, each by values of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def rotate(images: Tensor, degrees: Tensor, *, mirror: bool = False) -> Tensor:
    """Each image turned about its centre, bilinear.

    Args:
        images: float (B, C, H, W), square or not.
        degrees: float (B,), on any device.
        mirror: the image goes on mirrored beyond its borders; False: it is black there.

    Returns:
        float (B, C, H, W); an image with 0 degrees comes back as it is.
    """
    grid = _grid(images, degrees, torch.ones_like(degrees), torch.zeros(len(degrees), 2))
    beyond = "reflection" if mirror else "zeros"
    turned = F.grid_sample(images, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
    still = (degrees == 0).to(images.device).view(-1, 1, 1, 1)
    return torch.where(still, images, turned)


def rearrange(images: Tensor, degrees: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Each image turned, enlarged and shifted about, mirrored at its borders so that no place is empty.

    Args:
        images: float (B, C, H, W).
        degrees: float (B,).
        zoom: float (B,), above 1 enlarges.
        shift: float (B, 2), down and across, in halves of the image's sides.
    """
    grid = _grid(images, degrees, zoom, shift)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _grid(images: Tensor, degrees: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """(B, H, W, 2) where to look; sides differ, so that a turn in pixels is none in the grid's units."""
    height, width = images.shape[-2:]
    radians = torch.deg2rad(degrees)
    cos, sin = radians.cos() / zoom, radians.sin() / zoom
    across = torch.stack([cos, -sin * (height / width), shift[:, 1]], dim=1)
    down = torch.stack([sin * (width / height), cos, shift[:, 0]], dim=1)
    matrix = torch.stack([across, down], dim=1).to(images)  # (B, 2, 3)
    return F.affine_grid(matrix, list(images.shape), align_corners=False)
