"""How an image file becomes a model's input: decoding to 8-bit RGB, and the geometry that image and mask share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
_ON_ITS_SIDE = range(5, 9)  # its values that turn by 90 degrees
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
_LONGEST = 64  # times its own pixels: what covering the size may enlarge an image to


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
    with _opened(path, "image") as image:
        image.load()
        upright = _eight_bit(image)
        return upright if grey and upright.mode == "L" else upright.convert("RGB")


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright image, of which only the header is read; DataError as :func:`read_image`."""
    with _opened(path, "image") as image:
        width, height = image.size
        return (width, height) if image.getexif().get(ORIENTATION, 1) in _ON_ITS_SIDE else (height, width)


def checked_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of an image that can be decoded to its last byte; DataError as :func:`read_image`."""
    with _opened(path, "image") as image:
        width, height = image.size
        if image.mode not in ("L", "RGB") or image.getexif().get(ORIENTATION, 1) != 1:
            upright = to_rgb(image)
            return upright.height, upright.width
        image.draft(image.mode, (1, 1))  # of a JPEG all bytes are read, and few pixels made
        image.load()
        return height, width


def read_mask(path: str | Path) -> Image.Image:
    """Decode a mask to 0/255, any non-zero value being defective, *before* any resize (VisA's masks hold 1, 2, ...)."""
    with _opened(path, "mask") as opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        values = np.asarray(image if image.mode != "P" else image.convert("L"))
    if values.ndim == 3:
        values = values[..., :3].max(axis=-1)
    return Image.fromarray((values != 0).astype(np.uint8) * 255)


@contextmanager
def _opened(path: str | Path, what: str) -> Iterator[Image.Image]:
    """An image file for as long as it is decoded; DataError names one that cannot be."""
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # on damaged bytes, Pillow's decoders raise whatever they stumble over
        reason = str(error).rstrip(".") or type(error).__name__
        raise DataError(
            f"cannot read the {what} {str(path)!r}: {reason}. Remove or replace the file, then run again."
        ) from error


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [0, 1]: what modelers are given."""
    import torch

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


class Native:
    """The geometry of the image itself, in place of an :class:`InputSpec`: nothing is resized."""

    def array(self, image: Image.Image) -> NDArray[np.uint8]:
        """RGB or 8-bit grey image -> uint8 (H, W, 3)."""
        return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)

    def mask(self, mask: Image.Image) -> Tensor:
        """0/255 mask -> bool (1, H, W)."""
        import torch

        return torch.from_numpy(np.array(mask, dtype=np.uint8) > 0)[None]


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

    @property
    def whole(self) -> InputSpec:
        """The same input with nothing of the image lost: padded instead of covered, and not cropped."""
        resize: Literal["stretch", "pad"] = "stretch" if self.resize == "stretch" else "pad"
        return replace(self, size=self.output_size, resize=resize, center_crop=None)

    def image(self, image: Image.Image) -> Tensor:
        """RGB or 8-bit grey image of any size -> float32 (3, H, W) in [0, 1]; antialiased bilinear."""
        return as_images(self.array(image)[None])[0]

    def array(self, image: Image.Image) -> NDArray[np.uint8]:
        """RGB or 8-bit grey image of any size -> uint8 (H, W, 3): :meth:`image` before it is scaled; needs no torch."""
        if image.mode == "L" and self.resize == "pad":  # a border of one channel is taken for a mask's
            image = image.convert("RGB")
        array = np.array(self._place(image, Image.Resampling.BILINEAR), dtype=np.uint8)
        return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)

    def mask(self, mask: Image.Image) -> Tensor:
        """0/255 mask of the image's size -> bool (1, H, W); nearest, in the image's own geometry."""
        import torch

        return torch.from_numpy(np.array(self._place(mask, Image.Resampling.NEAREST), dtype=np.uint8) > 0)[None]

    def unplaced(self, maps: Tensor, height: int, width: int) -> Tensor:
        """float (B, C, H, W) in this geometry -> (B, C, height, width) in an image's own; of a :attr:`whole` spec alone."""
        from torch.nn import functional as F

        assert self == self.whole
        rows, columns = self.size
        if self.resize == "pad":
            wide, high = self._fitted(height, width)
            top, left = (rows - high) // 2, (columns - wide) // 2
            maps = maps[..., top : top + high, left : left + wide]
        if maps.shape[-2:] == (height, width):
            return maps
        shrinks = height < maps.shape[-2] or width < maps.shape[-1]
        return F.interpolate(maps, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)

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
        import torch
        from torch.nn import functional as F

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
            lengths = self._fitted(height, width)
            inside = _middle if self.resize == "keep" else _before
            offsets = inside(lengths[0], self.size[1]), inside(lengths[1], self.size[0])
        if self.center_crop:
            offsets = (
                offsets[0] + _middle(self.size[1], self.center_crop[1]),
                offsets[1] + _middle(self.size[0], self.center_crop[0]),
            )
        return (lengths[0], offsets[0]), (lengths[1], offsets[1])

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """(width, height) of an image that was enlarged or shrunk with its aspect kept."""
        choose = max if self.resize == "keep" else min
        scale = choose(self.size[0] / height, self.size[1] / width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _place(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        height, width = self.size
        if self.resize == "stretch":
            image = image.resize((width, height), resample)
        else:
            fitted = self._fitted(image.height, image.width)
            if fitted[0] * fitted[1] > _LONGEST * height * width:  # only `keep` enlarges beyond the size
                image = _strip(image, height, width)
                fitted = self._fitted(image.height, image.width)
            image = image.resize(fitted, resample)
            image = _crop(image, height, width) if self.resize == "keep" else _pad(image, height, width)
        return _crop(image, *self.center_crop) if self.center_crop else image


def _middle(length: int, wanted: int) -> int:
    """Where the middle part of a length begins."""
    return round((length - wanted) / 2)


def _before(length: int, wanted: int) -> int:
    """The same where the length is padded: as many pixels before it, as a negative number."""
    return -((wanted - length) // 2)


def _strip(image: Image.Image, height: int, width: int) -> Image.Image:
    """The centre of a very long image, of twice the aspect of the size: the rest would be enlarged to be thrown away."""
    long = 2 * max(height, width) / min(height, width)
    return _crop(image, min(image.height, round(image.width * long)), min(image.width, round(image.height * long)))


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
