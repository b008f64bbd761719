"""Images of anything, from a folder: textures that become anomalies, or what a student must not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anomaly_core import IMAGE_SUFFIXES, ConfigError, DataError, expanded, is_clutter, read_image

CACHE_BYTES = 2 * 1024**3  # the Describable Textures Dataset, 5640 images at 256x256, takes 1.1 GB


class PictureFolder:
    """The images below a folder, in an order of chance; decoded when first drawn, the first two gigabytes of them then kept.

    Args:
        folder: searched with all folders below it.
        option: that named it, for messages.
        size: (height, width) that they are stretched to.
        otherwise: what else to do where there is no such folder, for the message.

    Raises:
        ConfigError: there is no such folder.
        DataError: it holds no image.
    """

    def __init__(self, folder: str | Path, option: str, size: tuple[int, int], otherwise: str = "") -> None:
        root = expanded(folder)
        if not root.is_dir():
            raise ConfigError(f"{option} {str(folder)!r} is no folder. Name a folder of images{otherwise}.")
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
