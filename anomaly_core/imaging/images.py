"""Decoding of image files to upright 8-bit RGB, and of masks to 0 and 255."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anomaly_core.errors import DataError
from anomaly_core.types import MaskSource
from anomaly_core.untrusted import LARGEST_IMAGE, open_untrusted

if TYPE_CHECKING:  # an exported detector decodes and resizes images without torch
    from torch import Tensor

ORIENTATION = 0x0112  # the EXIF tag
_ON_ITS_SIDE = range(5, 9)  # its values that rotate by 90 degrees
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright: EXIF orientation applied, 16-bit grey scaled to 8 bits (Pillow alone would clip it)."""
    return _eight_bit(image).convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.getexif().get(ORIENTATION, 1) != 1:  # Pillow copies upright images too
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(values * (255.0 / 65535.0), 0, 255).round().astype(np.uint8))
    return image


def read_image(path: str | Path, *, grey: bool = False) -> Image.Image:
    """Decode an image file to upright 8-bit RGB. With ``grey``, a single-channel image keeps mode ``L``, which is resized in
    a third of the time. DataError names a file that cannot be read."""
    with _opened(path, "image") as image:
        image.load()
        upright = _eight_bit(image)
        return upright if grey and upright.mode == "L" else upright.convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header alone; DataError as in :func:`read_image`."""
    with _opened(path, "image") as image:
        width, height = image.size
        return (width, height) if image.getexif().get(ORIENTATION, 1) in _ON_ITS_SIDE else (height, width)


def checked_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of an image, after decoding all of it; DataError as in :func:`read_image`."""
    with _opened(path, "image") as image:
        if image.mode not in ("L", "RGB") or image.getexif().get(ORIENTATION, 1) != 1:
            upright = to_rgb(image)
            return upright.height, upright.width
        height, width = image.height, image.width
        image.draft(image.mode, (1, 1))  # reads all bytes of a JPEG but decodes few pixels
        image.load()
        return height, width


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
    with _opened(path, "mask") as opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        values = np.asarray(image if image.mode != "P" else image.convert("L"))
    return values[..., :3].max(axis=-1) if values.ndim == 3 else values


@contextmanager
def _opened(path: str | Path, what: str) -> Iterator[Image.Image]:
    try:
        with open_untrusted(path, LARGEST_IMAGE) as file, Image.open(file) as image:
            yield image
    except Exception as error:  # on damaged files, Pillow's decoders raise many kinds of exceptions
        reason = str(error).partition(" <_io.")[0].rstrip(".") or type(error).__name__
        raise DataError(
            f"cannot read the {what} {str(path)!r}: {reason}. Remove or replace the file, then run again."
        ) from error


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [0, 1], the input of modelers."""
    import torch

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
