"""Images of anything: as a penalty on what a student says of them, and to make a teacher of."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_trainers import PictureFolder

GREY_PENALTY = 0.3  # share of penalty images that are shown without colour


def penalty_images(pictures: PictureFolder, count: int, size: tuple[int, int]) -> Tensor:
    """So many of them: their centres, float32 (count, 3, *size) in [0, 1], some without colour."""
    images = pictures.draw(count)
    height, width = size
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    grey = torch.rand(count, 1, 1, 1) < GREY_PENALTY
    centres = images[:, :, top : top + height, left : left + width]
    return torch.where(grey, luminance(centres).expand_as(centres), centres)


def recoloured(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1], each with its brightness, contrast or saturation changed by a factor of 0.8 to 1.2."""
    count = (len(images), 1, 1, 1)
    factor = (0.8 + 0.4 * torch.rand(count)).to(images)
    kind = torch.randint(3, count).to(images.device)
    grey = luminance(images)
    other = torch.where(kind == 0, 0.0, torch.where(kind == 1, grey.mean(dim=(2, 3), keepdim=True), grey))
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def luminance(images: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, 1, H, W), by the weights that torchvision has."""
    return (images * images.new_tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
