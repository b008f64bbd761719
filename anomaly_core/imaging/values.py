"""The stored values of images of more than 8 bits a sample, and how a range of them becomes 8 bits."""

from __future__ import annotations

import sys
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core.errors import DataError
from anomaly_core.imaging.formats import Refused, open_image

Range = tuple[float, float]  # the stored values that become 0 and 255
WHOLE: Range = (0, 65535)
_BITS, _PHOTOMETRIC, _PLANAR, _LOWEST, _HIGHEST = 258, 262, 284, 340, 341  # TIFF tags
_SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_SAMPLES = {f"{bands};16" for bands in ("RGB", "RGBA", "RGBX", "R", "G", "B", "A")}


class Stored(NamedTuple):
    """What a file of more than 8 bits a sample holds.

    Attributes:
        values: (H, W) or (H, W, 3); integers, or floats that are finite.
        inverted: whether the lowest value is white (TIFF's WhiteIsZero).
        exact: False where Pillow gives only the high byte of 16 bits; ``values`` are then multiples of 257.
        declared: TIFF's SMinSampleValue and SMaxSampleValue, where the file has both.
    """

    values: NDArray[np.generic]
    inverted: bool = False
    exact: bool = True
    declared: Range | None = None


def is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits a sample; of one that is decoded already, Pillow knows it only where it is grey."""
    grey = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return (
        grey
        or any(";16" in str(args) or codec == "SGI16" for codec, _, _, args in getattr(image, "tile", ()))
        or _planar(image)
    )


def stored(image: Image.Image) -> Stored:
    """The values of an image for which :func:`is_deep` holds; DataError if they cannot be told."""
    tags: Any = getattr(image, "tag_v2", {})
    inverted = tags.get(_PHOTOMETRIC) == 0
    declared = _declared(tags)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            kinds = " and ".join(name for name, test in (("NaN", np.isnan), ("infinite", np.isinf)) if test(values).any())
            raise DataError(f"some of its pixels are {kinds}")
        return Stored(values, inverted, True, declared)
    exact = _sixteen_bits(image)
    values = np.asarray(image.convert("RGB")).astype(np.uint16) * 257 if exact is None else exact
    return Stored(values, inverted, exact is not None, declared)


def eight_bits(stored: Stored, range_: Range | None) -> Image.Image:
    """Mode ``L`` or ``RGB``: the range's ends become 0 and 255, and values beyond them too. None is the whole range of 16 bits;
    DataError for floats, and for values of which only the high byte is known where another range would need the low one."""
    values = stored.values
    if range_ is None and values.dtype.kind == "f":
        raise Refused(f"its pixels are floats from {values.min():g} to {values.max():g}: no run says what is black and white")
    low, high = range_ or WHOLE
    if not stored.exact and (low, high) != WHOLE:
        raise Refused(
            f"only the high bytes of such a file of 16 bits are read, which is too little for values from {low:g} to {high:g}. "
            "Save it as PNG, or as TIFF with interleaved RGB"
        )
    if values.dtype == np.uint16:  # by a table: quick, and no copy of a large image in floats
        scaled = _scaled(np.arange(65536), low, high)[values]
    else:
        scaled = _scaled(values, low, high)
    return Image.fromarray(255 - scaled if stored.inverted else scaled)


def _scaled(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    scaled = values.astype(np.float64)
    scaled -= low
    scaled *= 255.0 / (high - low)
    return cast("NDArray[np.uint8]", np.clip(scaled, 0, 255, out=scaled).round(out=scaled).astype(np.uint8))


def _declared(tags: Any) -> Range | None:
    ends = []
    for tag in (_LOWEST, _HIGHEST):
        value = tags.get(tag)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(number, int | float) for number in numbers) or len(set(numbers)) != 1:
            return None
        ends.append(float(numbers[0]))
    return (ends[0], ends[1]) if ends[0] < ends[1] else None


def _planar(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PLANAR) == 2 and max(tags.get(_BITS, (8,))) > 8)


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint16] | None:
    """16-bit RGB, uint16 (H, W, 3), by decoding the file twice; None if Pillow cannot.

    Pillow has no mode for it: it unpacks the high byte of each sample. Told that the order of bytes is the other one, it
    unpacks the low byte.
    """
    file: IO[bytes] | None = getattr(image, "fp", None)
    halves: list[NDArray[np.uint8]] = []
    for low in (False, True):
        again: Any = open_image(file) if file else None
        if again is None:  # decoded already
            return None
        again.seek(image.tell())
        tiles = []
        for tile in again.tile:
            codec, extents, offset, args = tile
            rawmode, *others = (args,) if isinstance(args, str) else args
            if _planar(again) and codec == "raw":  # of planes that libtiff decodes, the low bytes cannot be had
                rawmode += ";16L" if again.tag_v2.prefix == b"II" else ";16B"
            if (
                (_planar(again) and codec == "libtiff")
                or codec not in ("zip", "raw", "libtiff")
                or rawmode[:-1] not in _SAMPLES
            ):
                return None
            if low:
                rawmode = rawmode[:-1] + _SWAPPED[rawmode[-1]]
            changed = codec, extents, offset, rawmode if isinstance(args, str) else (rawmode, *others)
            tiles.append(type(tile)(*changed) if hasattr(tile, "_fields") else changed)  # Pillow 10 has plain tuples
        again.tile = tiles
        halves.append(np.asarray(again)[..., :3])
    high, low_bytes = halves
    return np.left_shift(high, 8, dtype=np.uint16) | low_bytes
