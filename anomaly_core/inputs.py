"""How an image file becomes a model's input: decoding to 8-bit RGB, and the geometry that image and mask share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from anomaly_core.errors import ConfigError, DataError
from anomaly_core.options import ModelConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """One number means a square; two are height, width."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright: EXIF orientation applied, 16-bit grey scaled to 8 bits (Pillow alone would clip it)."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(values * (255.0 / 65535.0), 0, 255).round().astype(np.uint8))
    return image.convert("RGB")


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file to upright 8-bit RGB; DataError names a file that cannot be read."""
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {str(path)!r}: {error}. Remove or replace the file, then run again.") from error


def native_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of an image file as it is seen upright, from its header alone; DataError as :func:`read_image`."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the image {str(path)!r}: {error}. Remove or replace the file, then run again.") from error


def read_mask(path: str | Path) -> Image.Image:
    """Decode a mask to 0/255, any non-zero value being defective, *before* any resize (VisA's masks hold 1, 2, ...)."""
    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            values = np.asarray(image if image.mode != "P" else image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the mask {str(path)!r}: {error}. Remove or replace the file, then run again.") from error
    if values.ndim == 3:
        values = values[..., :3].max(axis=-1)
    return Image.fromarray((values != 0).astype(np.uint8) * 255)


@dataclass(frozen=True)
class InputSpec:
    """The input that a modeler wants; it owns size, crop, mean and std, and nobody else resizes or normalises.

    Args:
        size: (height, width) in pixels after resizing.
        resize: ``stretch`` to the size; ``keep`` the aspect ratio, cover the size and crop its centre;
            ``pad``: keep the aspect ratio, fit inside and repeat the border.
        center_crop: (height, width) cut from the centre after resizing, or None.
        mean, std: of the normalisation that the modeler applies itself, for images in [0, 1].
    """

    size: tuple[int, int]
    resize: Literal["stretch", "keep", "pad"] = "stretch"
    center_crop: tuple[int, int] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def from_config(
        cls, config: ModelConfig, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
    ) -> InputSpec:
        """The spec that a method's config asks for, with the normalisation that its network was trained with."""
        crop = None if config.center_crop is None else pair(config.center_crop)
        size = pair(config.image_size)
        if crop and (crop[0] > size[0] or crop[1] > size[1]):
            raise ConfigError(
                f"model.center_crop={crop[0]},{crop[1]} is larger than model.image_size={size[0]},{size[1]}. "
                "Choose a crop that fits inside, or enlarge model.image_size."
            )
        return cls(size, config.resize, crop, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) of the tensor that the network sees, and of its anomaly maps."""
        return self.center_crop or self.size

    def image(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> float32 (3, H, W) in [0, 1]; antialiased bilinear."""
        return self.placed(image).float().div_(255)

    def placed(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> uint8 (3, H, W): :meth:`image` before it is scaled."""
        array = np.array(self._place(image, Image.Resampling.BILINEAR), dtype=np.uint8)
        return torch.from_numpy(array).permute(2, 0, 1).contiguous()

    def mask(self, mask: Image.Image) -> Tensor:
        """0/255 mask of the image's size -> bool (1, H, W); nearest, in the image's own geometry."""
        return torch.from_numpy(np.array(self._place(mask, Image.Resampling.NEAREST), dtype=np.uint8) > 0)[None]

    def native_region(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what the network sees of an image, in the image's own pixels.

        A crop leaves a part of the image; what a ``pad`` added lies outside the image and belongs to no region.
        """
        (across, left), (down, top) = self._geometry(width, height)
        out_height, out_width = self.output_size
        edges = (left * width / across, (left + out_width) * width / across)
        lines = (top * height / down, (top + out_height) * height / down)
        x0, x1 = (min(max(round(edge), 0), width) for edge in edges)
        y0, y1 = (min(max(round(line), 0), height) for line in lines)
        return x0, y0, x1, y1

    def native_map(self, anomaly_map: Tensor, width: int, height: int) -> Tensor:
        """A map of the network's input, float (1, h, w) -> float (1, H, W): bilinear, at :meth:`native_region`'s own pixels."""
        (across, left), (down, top) = self._geometry(width, height)
        out_height, out_width = self.output_size
        x0, y0, x1, y1 = self.native_region(width, height)
        x = ((torch.arange(x0, x1) + 0.5) * (across / width) - left) / out_width * 2 - 1
        y = ((torch.arange(y0, y1) + 0.5) * (down / height) - top) / out_height * 2 - 1
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]  # (1, H, W, 2), -1 and 1 are the borders
        return F.grid_sample(anomaly_map[None], places, mode="bilinear", padding_mode="border", align_corners=False)[0]

    def _geometry(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Across and down: pixels of the whole image after resizing, and where the network's input begins in them."""
        lengths, offsets = self.size[::-1], (0, 0)
        if self.resize != "stretch":
            choose = max if self.resize == "keep" else min
            scale = choose(self.size[0] / height, self.size[1] / width)
            lengths = max(1, round(width * scale)), max(1, round(height * scale))
            inside = _middle if self.resize == "keep" else _before
            offsets = inside(lengths[0], self.size[1]), inside(lengths[1], self.size[0])
        if self.center_crop:
            offsets = (
                offsets[0] + _middle(self.size[1], self.center_crop[1]),
                offsets[1] + _middle(self.size[0], self.center_crop[0]),
            )
        return (lengths[0], offsets[0]), (lengths[1], offsets[1])

    def _place(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        (across, _), (down, _) = self._geometry(image.width, image.height)
        image = image.resize((across, down), resample)
        if self.resize == "keep":
            image = _crop(image, *self.size)
        elif self.resize == "pad":
            image = _pad(image, *self.size)
        return _crop(image, *self.center_crop) if self.center_crop else image


def _middle(length: int, wanted: int) -> int:
    """Where the middle part of a length begins."""
    return round((length - wanted) / 2)


def _before(length: int, wanted: int) -> int:
    """The same where the length is padded: as many pixels before it, as a negative number."""
    return -((wanted - length) // 2)


def _crop(image: Image.Image, height: int, width: int) -> Image.Image:
    left, top = _middle(image.width, width), _middle(image.height, height)
    return image.crop((left, top, left + width, top + height))


def _pad(image: Image.Image, height: int, width: int) -> Image.Image:
    """Centre the image; an RGB image's border is repeated, a mask's is empty: no defect is invented."""
    top, left = -_before(image.height, height), -_before(image.width, width)
    widths = [(top, height - image.height - top), (left, width - image.width - left)]
    array = np.asarray(image)
    if array.ndim == 3:
        return Image.fromarray(np.pad(array, [*widths, (0, 0)], mode="edge"))
    return Image.fromarray(np.pad(array, widths))
