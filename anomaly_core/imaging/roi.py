"""RegionOfInterest: the part of the images that counts; whatever lies outside is neither learnt nor scored."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field

from anomaly_core.config.sections import DataConfig
from anomaly_core.errors import ConfigError, DataError
from anomaly_core.imaging.images import read_mask
from anomaly_core.untrusted import expanded

FILL = 114  # a grey near ImageNet's mean: once normalised it is about zero, what networks see in their own padding
LARGEST = 1 << 28  # pixels of a region
Bools = NDArray[np.bool_]
Pixels = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
_FORMS = "left,top,right,bottom in pixels of the upright image, a polygon x1,y1,x2,y2,x3,y3,... or a mask image"


@dataclass(frozen=True)
class Stencil:
    """A picture of one bit a pixel as text: rows of bits, each begun at a byte, by zlib and in base64."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    width: Pixels
    height: Pixels
    bits: str

    @classmethod
    def of(cls, pixels: Bools) -> Stencil:
        """The stencil of a bool (H, W)."""
        packed = zlib.compress(np.packbits(pixels, axis=1).tobytes())
        return cls(pixels.shape[1], pixels.shape[0], base64.b64encode(packed).decode())

    @cached_property
    def pixels(self) -> Bools:
        """bool (H, W); ValueError if the text does not hold so many."""
        columns = -(-self.width // 8)
        wanted = columns * self.height
        if wanted > LARGEST:
            raise ValueError(f"a region of {self.width}x{self.height} pixels is too large")
        unpacker = zlib.decompressobj()
        try:
            packed = unpacker.decompress(base64.b64decode(self.bits, validate=True), wanted + 1)
        except zlib.error as error:
            raise ValueError(f"its bits cannot be unpacked: {error}") from error
        if len(packed) != wanted:
            raise ValueError(f"its bits are not those of {self.width}x{self.height} pixels")
        rows = np.frombuffer(packed, dtype=np.uint8).reshape(self.height, columns)
        return np.unpackbits(rows, axis=1, count=self.width).astype(bool)

    @cached_property
    def image(self) -> Image.Image:
        """The same as a picture of mode ``L``, 255 where it is set."""
        return Image.fromarray(self.pixels.astype(np.uint8) * 255)


@dataclass(frozen=True)
class RegionOfInterest:
    """A box of the upright image and, within it, what counts.

    Attributes:
        box: (left, top, right, bottom) in pixels, right and bottom excluded; None is the whole image.
        ignored: what does not count, from the box's left upper corner on; beyond the stencil all counts. None: all counts.
        size: (width, height) that images must have; None: any that box and stencil fit into.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    box: tuple[Pixels, Pixels, Pixels, Pixels] | None = None
    ignored: Stencil | None = None
    size: tuple[Pixels, Pixels] | None = None

    def __post_init__(self) -> None:
        if self.box and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"the box {self.box} is empty")
        if self.ignored and self.part not in (None, (self.ignored.height, self.ignored.width)):
            raise ValueError("the box and what is ignored in it differ in size")
        if self.ignored and self.ignored.pixels.all() and self._extent in ((), self.size):
            raise ValueError("all of the region is ignored")

    @classmethod
    def from_config(cls, config: DataConfig) -> RegionOfInterest | None:
        """The region that ``data.roi`` and ``data.ignore`` describe; None without them. ConfigError if it is none."""
        shapes = [_shape("data.ignore", text.strip()) for text in (config.ignore or "").split(";") if text.strip()]
        region = None if config.roi is None else _shape("data.roi", config.roi.strip())
        sizes = list(dict.fromkeys(shape.size for shape in (region, *shapes) if shape and shape.size))
        if len(sizes) > 1:
            raise ConfigError(
                f"the mask images of data.roi and data.ignore are {sizes[0][0]}x{sizes[0][1]} and {sizes[1][0]}x{sizes[1][1]} "
                "pixels. All must have the size of the images."
            )
        if region is None and not shapes:
            return None
        left, top = (region.left, region.top) if region else (0, 0)
        if region:
            ignored = ~region.pixels
        else:
            ignored = np.zeros((max(shape.bottom for shape in shapes), max(shape.right for shape in shapes)), dtype=bool)
        for shape in shapes:
            height, width = ignored.shape
            rows = slice(max(top, shape.top), min(top + height, shape.bottom))
            columns = slice(max(left, shape.left), min(left + width, shape.right))
            if rows.start >= rows.stop or columns.start >= columns.stop:
                raise ConfigError(
                    f"data.ignore={shape.text!r} lies outside data.roi={config.roi!r}. Correct one, or leave it out."
                )
            part = shape.pixels[
                rows.start - shape.top : rows.stop - shape.top, columns.start - shape.left : columns.stop - shape.left
            ]
            ignored[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= part
        box = region and (region.left, region.top, region.right, region.bottom)
        try:
            return cls(box, Stencil.of(ignored) if ignored.any() else None, sizes[0] if sizes else None)
        except ValueError as error:
            raise ConfigError(
                f"data.roi={config.roi!r} and data.ignore={config.ignore!r}: {error}. Nothing would be seen."
            ) from error

    @property
    def part(self) -> tuple[int, int] | None:
        """(height, width) of the region if it is the same in all images."""
        return (self.box[3] - self.box[1], self.box[2] - self.box[0]) if self.box else None

    @property
    def origin(self) -> tuple[int, int]:
        """(left, top) of the region in the whole image."""
        return self.box[:2] if self.box else (0, 0)

    def cropped_size(self, height: int, width: int, name: str) -> tuple[int, int]:
        """(height, width) of the region in an upright image of this size; DataError names an image that it does not fit."""
        right, bottom = self.box[2:] if self.box else self._extent
        if right > width or bottom > height or self.size not in (None, (width, height)):
            wanted = "is for images of {}x{}".format(*self.size) if self.size else f"reaches to x={right}, y={bottom}"
            raise DataError(
                f"the region of data.roi and data.ignore {wanted} pixels, and {name} has {width}x{height}. "
                "Give images of the same view, or fit with a region that fits them."
            )
        if self.ignored and self._extent == (width, height) and self.ignored.pixels.all():
            raise DataError(f"data.ignore covers all of {name}: nothing of it would be seen. Ignore less.")
        return self.part or (height, width)

    def crop(self, image: Image.Image, name: str, fill: int = FILL) -> Image.Image:
        """The region of an upright image, what is ignored filled with one grey; DataError as in :meth:`cropped_size`."""
        self.cropped_size(image.height, image.width, name)
        cropped = image.crop(self.box or (0, 0, *image.size))
        if self.ignored:
            cropped.paste((fill,) * len(cropped.getbands()), (0, 0), self.ignored.image)
        return cropped

    def keep(self, height: int, width: int) -> Bools | None:
        """What counts of a region of this size, bool (H, W); None where all of it does."""
        if self.ignored is None:
            return None
        kept = np.ones((height, width), dtype=bool)
        kept[: self.ignored.height, : self.ignored.width] = ~self.ignored.pixels
        return kept

    @property
    def _extent(self) -> tuple[int, ...]:
        """(width, height) of the stencil where it is placed in the whole image, else nothing."""
        return (self.ignored.width, self.ignored.height) if self.ignored and not self.box else ()


def lowered(maps: NDArray[np.float32], valid: Bools) -> NDArray[np.float32]:
    """Maps (B, 1, h, w) with the least value of each where cells do not count: no defect can be there."""
    least = np.where(valid, maps, np.float32(np.inf)).min(axis=(1, 2, 3), keepdims=True)
    return np.where(valid | np.isposinf(least), maps, least)  # of a region so narrow that no cell is left, the map stays


class _Shape(NamedTuple):
    """One part of an option: bool (H, W) at its place in the image; the size of the mask image that it comes from."""

    text: str
    left: int
    top: int
    pixels: Bools
    size: tuple[int, int] | None = None

    @property
    def right(self) -> int:
        return self.left + int(self.pixels.shape[1])

    @property
    def bottom(self) -> int:
        return self.top + int(self.pixels.shape[0])


def _shape(option: str, text: str) -> _Shape:
    """The shape that an option's text describes; ConfigError if it does not describe any."""

    def wrong(reason: str) -> ConfigError:
        return ConfigError(f"{option}={text!r} {reason}. Give {_FORMS}.")

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        if not expanded(text).is_file():
            raise wrong("is neither numbers nor a file") from None
        try:
            pixels = np.asarray(read_mask(expanded(text))) > 0
        except DataError as error:
            raise ConfigError(f"{option}: {error}") from error
        if not pixels.any():
            raise wrong("is a mask image that marks no pixel") from None
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        top, left = int(rows[0]), int(columns[0])
        return _Shape(text, left, top, pixels[top : rows[-1] + 1, left : columns[-1] + 1], pixels.shape[::-1])
    if len(numbers) < 4 or len(numbers) % 2:
        raise wrong(f"has {len(numbers)} numbers")
    if not all(map(math.isfinite, numbers)) or min(numbers) < 0:
        raise wrong("lies outside of any image: a coordinate is negative or no number")
    if len(numbers) == 4:
        if not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
            raise wrong("is empty: right and bottom are coordinates too, not width and height")
        corners = np.array(numbers)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    else:
        corners = np.array(numbers).reshape(-1, 2)
        if _crosses_itself(corners):
            raise wrong("is a polygon whose sides cross: give its corners in order")
    left, top = (int(edge) for edge in np.floor(corners.min(axis=0)))
    right, bottom = (int(edge) for edge in np.ceil(corners.max(axis=0)))
    if (right - left) * (bottom - top) > LARGEST:
        raise wrong(f"is larger than {LARGEST} pixels")
    pixels = filled_polygon(corners - (left, top), bottom - top, right - left)
    if not pixels.any():
        raise wrong("is empty: no pixel's centre lies in it")
    return _Shape(text, left, top, pixels)


def _crosses_itself(corners: NDArray[np.float64]) -> bool:
    """Whether two sides of a polygon (N, 2) cross, other than by touching."""
    ends = np.roll(corners, -1, axis=0)

    def turns(points: NDArray[np.float64]) -> NDArray[np.float64]:  # (N, N): on which side of side i point j lies
        along, to = (ends - corners)[:, None], points[None] - corners[:, None]
        turn: NDArray[np.float64] = along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]
        return np.sign(turn)

    apart = turns(corners) * turns(ends) < 0  # the ends of side j lie on both sides of side i
    return bool((apart & apart.T).any())


def filled_polygon(corners: NDArray[np.float64], height: int, width: int) -> Bools:
    """bool (H, W): the pixels whose centre lies in a closed polygon (N, 2) of (x, y), so that a box is itself; what lies on a
    left or upper side is inside. Where the polygon crosses itself, the even-odd rule holds; what lies outside is cut off."""
    edges = np.zeros((height, width + 1), dtype=bool)
    x, y = np.asarray(corners, dtype=np.float64).T - 0.5  # pixel centres have whole numbers
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 > y1:  # so that polygons with a common side round alike
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(math.ceil(y0), 0), min(math.ceil(y1), height))
        if rows.size:
            columns = np.ceil(x0 + (rows - y0) * (x1 - x0) / (y1 - y0)).clip(0, width).astype(np.intp)
            edges[rows, columns] ^= True  # each row occurs once
    inside: Bools = np.logical_xor.accumulate(edges, axis=1)[:, :-1]
    return inside
