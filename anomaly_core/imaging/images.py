"""Decoding of masks to 0 and 255, and pixels as the input of modelers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anomaly_core.errors import DataError
from anomaly_core.imaging.formats import opened
from anomaly_core.types import MaskSource

if TYPE_CHECKING:  # an exported detector decodes and resizes images without torch
    from torch import Tensor


def read_mask(path: str | Path | tuple[Path, ...] | MaskSource) -> Image.Image:
    """Decode a mask, or the union of several, to 0/255 before any resizing: any non-zero value is defective."""
    if isinstance(path, MaskSource):
        return path.read()
    if isinstance(path, tuple):
        masks = [read_mask(part) for part in path]
        for part, mask in zip(path, masks, strict=True):
            if mask.size != masks[0].size:
                raise DataError(f"the masks {str(path[0])!r} and {str(part)!r} of one image differ in size. Export them again.")
        return Image.fromarray(np.maximum.reduce([np.asarray(mask) for mask in masks]))
    return Image.fromarray((read_mask_classes(path) != 0).astype(np.uint8) * 255)


def read_mask_classes(path: str | Path) -> NDArray[np.generic]:
    """The raw values (H, W) of a mask file: 0 is normal, every other value is a class."""
    with opened(path, "mask") as stored:
        image: Image.Image = ImageOps.exif_transpose(stored)
        values = np.asarray(image if image.mode != "P" else image.convert("L"))
    return values[..., :3].max(axis=-1) if values.ndim == 3 else values


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [0, 1], the input of modelers."""
    import torch

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
