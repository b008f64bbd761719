"""InputSpec: the geometry shared by a model's input, masks and maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core.config.sections import ModelConfig
from anomaly_core.errors import ConfigError
from anomaly_core.imaging.images import as_images
from anomaly_core.imaging.roi import FILL

if TYPE_CHECKING:  # an exported detector resizes images without torch
    from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LONGEST = 64  # `keep` enlarges an image to at most this many times the pixels of the target size


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """One number means a square; two are height, width."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


class Native:
    """The image's own geometry, in place of an :class:`InputSpec`: nothing is resized."""

    def array(self, image: Image.Image) -> NDArray[np.uint8]:
        """RGB or 8-bit grey image -> uint8 (H, W, 3)."""
        return np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)

    def mask(self, mask: Image.Image) -> Tensor:
        """0/255 mask -> bool (1, H, W)."""
        return _mask_tensor(mask)


@dataclass(frozen=True)
class InputSpec:
    """The input that a modeler needs: size, crop, mean and std. Only this class resizes, and only the modeler normalises.

    Args:
        size: (height, width) in pixels after resizing.
        resize: ``stretch`` to the size; ``keep`` the aspect ratio, cover the size and crop its centre;
            ``pad``: keep the aspect ratio, fit inside and fill the border with grey.
        center_crop: (height, width) cut from the centre after resizing, or None.
        mean, std: the modeler itself uses them to normalise images in [0, 1].
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
        """The spec that a method's config requests, with the normalisation that its network was trained with."""
        size, crop = pair(config.image_size), None if config.center_crop is None else pair(config.center_crop)
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
        """The same input with the whole image: padded instead of covered, and not cropped."""
        resize: Literal["stretch", "pad"] = "stretch" if self.resize == "stretch" else "pad"
        return replace(self, size=self.output_size, resize=resize, center_crop=None)

    def image(self, image: Image.Image) -> Tensor:
        """RGB or 8-bit grey image of any size -> float32 (3, H, W) in [0, 1]; antialiased bilinear."""
        return as_images(self.array(image)[None])[0]

    def array(self, image: Image.Image) -> NDArray[np.uint8]:
        """RGB or 8-bit grey image of any size -> uint8 (H, W, 3): :meth:`image` before it is scaled; needs no torch."""
        if image.mode == "L" and self.resize == "pad":  # _pad treats a single-channel image as a mask
            image = image.convert("RGB")
        array = np.array(self._place(image, Image.Resampling.BILINEAR), dtype=np.uint8)
        return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)

    def mask(self, mask: Image.Image) -> Tensor:
        """0/255 mask of the image's size -> bool (1, H, W); nearest, in the image's own geometry."""
        return _mask_tensor(self._place(mask, Image.Resampling.NEAREST))

    def stencil(self, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool (H, W) of the image's size -> bool (h, w), as :meth:`mask`; needs no torch."""
        return np.array(self._place(Image.fromarray(keep), Image.Resampling.NEAREST), dtype=bool)

    def unplaced(self, maps: Tensor, height: int, width: int) -> Tensor:
        """float (B, C, H, W) in this geometry -> (B, C, height, width) in an image's own; only for a :attr:`whole` spec."""
        from torch.nn import functional as F

        assert self == self.whole
        columns, rows = self.fitted(width, height)
        top, left = (self.size[0] - rows) // 2, (self.size[1] - columns) // 2
        maps = maps[..., top : top + rows, left : left + columns]
        if maps.shape[-2:] == (height, width):
            return maps
        shrinks = height < maps.shape[-2] or width < maps.shape[-1]
        return F.interpolate(maps, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)

    def native_region(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the region of an image that the network sees, in the image's own pixels: smaller than
        the image with a crop; the border that ``pad`` adds is not included."""
        edges = []
        for length, (scaled, start, seen) in zip((width, height), self._axes(width, height), strict=True):
            edges.append([min(max(round(edge * length / scaled), 0), length) for edge in (start, start + seen)])
        (left, right), (top, bottom) = edges
        return left, top, right, bottom

    def native_map(self, anomaly_map: Tensor, width: int, height: int) -> Tensor:
        """A map at the input size, float (1, h, w) -> float (1, H, W): bilinear, at the pixels of :meth:`native_region`."""
        import torch
        from torch.nn import functional as F

        left, top, right, bottom = self.native_region(width, height)
        (across, x_start, x_seen), (down, y_start, y_seen) = self._axes(width, height)
        x = ((torch.arange(left, right) + 0.5) * (across / width) - x_start) / x_seen * 2 - 1
        y = ((torch.arange(top, bottom) + 0.5) * (down / height) - y_start) / y_seen * 2 - 1
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]  # (1, H, W, 2), -1 and 1 are the borders
        return F.grid_sample(anomaly_map[None], places, mode="bilinear", padding_mode="border", align_corners=False)[0]

    def native_axes(self, width: int, height: int, map_size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """(scale, offset) of x, then of y: a place in an (h, w) map lies at scale * place + offset in the image, both counted
        from the left or upper edge of the first pixel. With ``pad``, the map reaches beyond the image."""
        axes = zip((width, height), map_size[::-1], self._axes(width, height), strict=True)
        return tuple((seen * side / (cells * scaled), start * side / scaled) for side, cells, (scaled, start, seen) in axes)

    def _axes(self, width: int, height: int) -> list[tuple[int, int, int]]:
        """For x, then y: length of the whole resized image, start of the network's input within it, length of that input."""
        axes = []
        for scaled, side, seen in zip(self.fitted(width, height), self.size[::-1], self.output_size[::-1], strict=True):
            start = _middle(scaled, side) if self.resize == "keep" else -((side - scaled) // 2)
            axes.append((scaled, start + _middle(side, seen), seen))
        return axes

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the whole image after resizing."""
        if self.resize == "stretch":
            return self.size[1], self.size[0]
        choose = max if self.resize == "keep" else min
        scale = choose(self.size[0] / height, self.size[1] / width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _place(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        height, width = self.size
        fitted = self.fitted(image.width, image.height)
        if fitted[0] * fitted[1] > _LONGEST * height * width:  # only `keep` enlarges beyond the size
            # A centre crop with twice the aspect of the size is enough: the rest would be enlarged and then cut off.
            long = 2 * max(height, width) / min(height, width)
            image = _crop(image, min(image.height, round(image.width * long)), min(image.width, round(image.height * long)))
            fitted = self.fitted(image.width, image.height)
        image = image.resize(fitted, resample)
        if self.resize == "keep":
            image = _crop(image, height, width)
        elif self.resize == "pad":
            image = _pad(image, height, width)
        return _crop(image, *self.center_crop) if self.center_crop else image


def _mask_tensor(mask: Image.Image) -> Tensor:
    import torch

    return torch.from_numpy(np.array(mask, dtype=np.uint8) > 0)[None]


def _middle(length: int, part: int) -> int:
    """The start of a centred part of a length."""
    return round((length - part) / 2)


def _crop(image: Image.Image, height: int, width: int) -> Image.Image:
    left, top = _middle(image.width, width), _middle(image.height, height)
    return image.crop((left, top, left + width, top + height))


def _pad(image: Image.Image, height: int, width: int) -> Image.Image:
    """Centre the image. An RGB image's border is grey, in which no network finds anything: what it repeats or mirrors is often
    the oddest place of a normal image. A mask's is zero, so that no defect is added."""
    if image.size == (width, height):
        return image
    padded = Image.new(image.mode, (width, height), (FILL,) * 3 if image.mode == "RGB" else 0)
    padded.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return padded
