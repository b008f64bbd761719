"""Images of a folder: as a penalty on what a student says of anything, and to make a teacher of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anomaly_core import IMAGE_SUFFIXES, ConfigError, DataError, expanded, is_clutter, read_image

GREY_PENALTY = 0.3  # share of penalty images that are shown without colour
CACHE_BYTES = 1 << 30


class PictureFolder:
    """The images below a folder, in an order of chance; decoded when drawn, and the first gigabyte of them then kept.

    Args:
        folder: searched with all folders below it.
        option: that named it, for messages.
        size: (height, width) that they are stretched to.

    Raises:
        ConfigError: there is no such folder.
        DataError: it holds no image.
    """

    def __init__(self, folder: str | Path, option: str, size: tuple[int, int]) -> None:
        root = expanded(folder)
        if not root.is_dir():
            raise ConfigError(f"{option} {str(folder)!r} is no folder. Name a folder of images.")
        self.paths = sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not any(map(is_clutter, path.relative_to(root).parts))
            and path.is_file()
        )
        if not self.paths:
            raise DataError(f"{option} {str(folder)!r} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). Check the folder.")
        self._size = size
        self._room = CACHE_BYTES // (3 * size[0] * size[1])
        self._cache: dict[int, Tensor] = {}

    def draw(self, count: int) -> Tensor:
        """float32 (count, 3, H, W) in [0, 1] on the CPU, chosen by torch's global generator; DataError for a damaged file."""
        chosen = torch.randint(len(self.paths), (count,)).tolist()
        return torch.stack([self._image(index) for index in chosen]).float() / 255

    def _image(self, index: int) -> Tensor:
        """uint8 (3, H, W)."""
        if index in self._cache:
            return self._cache[index]
        height, width = self._size
        image = read_image(self.paths[index]).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        if len(self._cache) < self._room:
            self._cache[index] = tensor
        return tensor


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
