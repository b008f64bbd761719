"""Decoding of masks to 0 and 255, and pixels as the input of modelers."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anomaly_core.errors import DataError
from anomaly_core.imaging.formats import opened
from anomaly_core.types import MaskSource

if TYPE_CHECKING:  # an exported detector decodes and resizes images without torch
    from torch import Tensor

_CLUTTER = (
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler", "lost+found"),
    *("system volume information", "__macosx", "__pycache__", "thumbs.db", "desktop.ini"),
)


def is_clutter(name: str) -> bool:
    """Whether a file or folder of that name is another program's own: hidden, a recycle bin, thumbnails and the like."""
    return name.startswith((".", "~$")) or name.lower() in _CLUTTER


def read_mask(path: str | Path | MaskSource | tuple[Path | MaskSource, ...]) -> Image.Image:
    """Decode a mask, or the union of several, to 0/255 before any resizing: any non-zero value is defective.

    A noisy mask, however, is cut at half of its largest value, and its ``info["thresholded"]`` says so. Noisy are a JPEG with
    values between 0 and the largest, and a mask whose largest value is at least 32 with at least 5 pixels of at least two
    values between, where these pixels

    - form edges that fade: of those that differ from a neighbour, at least 30 % have a smaller and a larger one. In blurred
      and anti-aliased shapes 32 to 100 % have; in class and instance indices, whose areas are flat and end abruptly, 18 % at
      most (3,000 instances on 256 x 256 pixels);
    - or lie near the ends, as in a JPEG that was saved again as PNG: 90 % within an eighth of 0 or of the largest value, some
      at each end.
    """
    if isinstance(path, MaskSource):
        return path.read()
    if isinstance(path, tuple):
        masks = [read_mask(part) for part in path]
        names = [str(part.path if isinstance(part, MaskSource) else part) for part in path]
        for name, mask in zip(names, masks, strict=True):
            if mask.size != masks[0].size:
                raise DataError(f"the masks {names[0]!r} and {name!r} of one image differ in size. Export them again.")
        united = Image.fromarray(np.maximum.reduce([np.asarray(mask) for mask in masks]))
        united.info["thresholded"] = any(mask.info.get("thresholded") for mask in masks)
        return united
    values, lossy = _mask_values(path)
    noisy = _is_noisy(values, lossy)
    mask = Image.fromarray((values >= values.max() / 2 if noisy else values != 0).astype(np.uint8) * 255)
    mask.info["thresholded"] = noisy
    return mask


def read_mask_classes(path: str | Path) -> NDArray[np.generic]:
    """The raw values (H, W) of a mask file: 0 is normal, every other value is a class. Of a palette they are the indices, of
    colours the largest channel, and of a drawing on a transparent background its opacity."""
    return _mask_values(path)[0]


def _mask_values(path: str | Path) -> tuple[NDArray[Any], bool]:
    """The values (H, W), and whether the file is a JPEG."""
    with opened(path, "mask") as file:
        image: Image.Image = ImageOps.exif_transpose(file)
        lossy = file.format in ("JPEG", "MPO")
        if "transparency" in image.info or (image.mode not in ("1", "L", "P", "I", "F", "RGB") and image.mode[:4] != "I;16"):
            return _opacity(np.asarray(image.convert("RGBA"))), lossy
        values: NDArray[Any] = _indices(image) if image.mode == "P" else np.asarray(image)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or Inf")
    return values.max(axis=-1) if values.ndim == 3 else values, lossy


def _opacity(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Alpha where something is drawn on nothing, else the largest channel of what is seen."""
    colour, alpha = pixels[..., :3].max(axis=-1), pixels[..., 3]
    if alpha.min() == alpha.max():
        return colour if alpha.any() or colour.min() != colour.max() else alpha
    seen: NDArray[np.uint8] = np.minimum(colour, alpha)
    on_black = 0 < 2 * np.count_nonzero(seen) < np.count_nonzero(alpha)  # a white defect on black, transparent elsewhere
    return seen if on_black else alpha


def _indices(image: Image.Image) -> NDArray[Any]:
    """The indices of a palette, the background being 0; many shades of grey are a grey image."""
    indices, palette = np.asarray(image), np.zeros((256, 3), dtype=np.uint8)
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    used = np.unique(indices)
    values: NDArray[Any] = np.arange(256, dtype=np.uint8)
    black = [index for index in used if not palette[index].any()]
    if len(used) > 16 and (palette[used] == palette[used, :1]).all():
        values = palette[:, 0]
    elif palette[0].any() and black:  # black is the background wherever the palette has it
        values[[0, black[0]]] = black[0], 0
    classes: NDArray[Any] = values[indices]
    return classes


def _is_noisy(values: NDArray[Any], lossy: bool) -> bool:
    """The rule of :func:`read_mask`."""
    top = float(values.max())
    if values.dtype == bool or (top < 32 and not (values % 1).any()) or values.min() < 0:
        return False
    inner = (values > 0) & (values < top)
    if lossy or np.count_nonzero(inner) < 5 or len(np.unique(values[inner])) < 2:
        return lossy and bool(inner.any())
    framed = np.pad(values, 1, mode="edge")
    around = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    smaller, larger = reduce(np.minimum, around) < values, reduce(np.maximum, around) > values
    if (inner & smaller & larger).sum() >= 0.3 * max((inner & (smaller | larger)).sum(), 1):
        return True
    low, high = inner & (values <= top / 8), inner & (values >= top * 7 / 8)
    return bool(low.any() and high.any() and (low | high).sum() >= 0.9 * inner.sum())


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) RGB -> float32 (B, 3, H, W) in [0, 1], the input of modelers."""
    import torch

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
