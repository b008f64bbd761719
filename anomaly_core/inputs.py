"""How an image file becomes a model's input: decoding to 8-bit RGB, and the geometry that image and mask share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anomaly_core.errors import ConfigError, DataError
from anomaly_core.options import ModelConfig

if TYPE_CHECKING:  # an exported detector decodes and places images without torch
    from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ORIENTATION = 0x0112  # the EXIF tag
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """One number means a square; two are height, width."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


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
    """Decode an image file to upright 8-bit RGB; DataError names a file that cannot be read.

    Args:
        grey: leave an image of one channel at that (mode ``L``), which is resized in a third of the time.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = _eight_bit(image)
            return upright if grey and upright.mode == "L" else upright.convert("RGB")
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
        import torch

        return torch.from_numpy(self.array(image)).permute(2, 0, 1).contiguous()

    def array(self, image: Image.Image) -> NDArray[np.uint8]:
        """RGB or 8-bit grey image of any size -> uint8 (H, W, 3): :meth:`placed` for those who have no torch."""
        if image.mode == "L" and self.resize == "pad":  # a border of one channel is taken for a mask's
            image = image.convert("RGB")
        array = np.array(self._place(image, Image.Resampling.BILINEAR), dtype=np.uint8)
        return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)

    def mask(self, mask: Image.Image) -> Tensor:
        """0/255 mask of the image's size -> bool (1, H, W); nearest, in the image's own geometry."""
        import torch

        return torch.from_numpy(np.array(self._place(mask, Image.Resampling.NEAREST), dtype=np.uint8) > 0)[None]

    def _place(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        height, width = self.size
        if self.resize == "stretch":
            image = image.resize((width, height), resample)
        else:
            choose = max if self.resize == "keep" else min
            scale = choose(height / image.height, width / image.width)
            rounded = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            image = image.resize(rounded, resample)
            image = _crop(image, height, width) if self.resize == "keep" else _pad(image, height, width)
        return _crop(image, *self.center_crop) if self.center_crop else image


def _crop(image: Image.Image, height: int, width: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _pad(image: Image.Image, height: int, width: int) -> Image.Image:
    """Centre the image; an RGB image's border is repeated, a mask's is empty: no defect is invented."""
    top, left = (height - image.height) // 2, (width - image.width) // 2
    widths = [(top, height - image.height - top), (left, width - image.width - left)]
    array = np.asarray(image)
    if array.ndim == 3:
        return Image.fromarray(np.pad(array, [*widths, (0, 0)], mode="edge"))
    return Image.fromarray(np.pad(array, widths))
