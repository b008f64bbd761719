"""Images in any form that a user gives, in the form that a detector needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core import ConfigError, DataError, ImageReader
from anomaly_predict.arrays import holds_several, is_tensor, pixels
from anomaly_predict.pool import batched

ImageLike = Any  # str | Path | PIL.Image.Image | numpy (H, W, 3) uint8 | tensor (3, H, W), as anomaly_predict.arrays checks
COLOURS = ("RGB", "BGR")


class Place(Protocol):
    """What brings an image into a detector's geometry."""

    def __call__(self, image: ImageLike, *, colour: str = "RGB") -> NDArray[np.uint8]: ...


def placed(
    images: ImageLike | Iterable[ImageLike], place: Place, size: int, colour: str = "RGB"
) -> Iterator[list[NDArray[np.uint8]]]:
    """Lists of ``size`` images in a detector's geometry, read lazily from an iterator."""
    stream = images if isinstance(images, Iterator) else several(images)
    return filter(None, batched((place(image, colour=colour) for image in stream), size))


def as_image(image: ImageLike, reader: ImageReader, colour: str = "RGB", *, grey: bool = False) -> Image.Image:
    """Any accepted form of an image as a reader gives it, 8-bit RGB.

    Args:
        image: a path, a PIL image, an array or a tensor.
        reader: decodes it.
        colour: ``RGB``, or ``BGR`` for an array or tensor in OpenCV's order; a grey one is the same in both.
        grey: whether a file of one channel may stay grey (mode ``L``).

    Raises:
        DataError: it is none of these, or cannot be read; the message says why.
        ConfigError: another colour order, or one that a file or a PIL image, which know their own, would ignore.
    """
    if colour not in COLOURS:
        raise ConfigError(f"colour={colour!r} is no order of colours: give RGB, or BGR, which OpenCV's arrays have.")
    if colour != "RGB" and isinstance(image, str | os.PathLike | Image.Image):
        what = "PIL image" if isinstance(image, Image.Image) else f"file, {os.fspath(image)!r},"
        raise ConfigError(
            f"colour={colour!r} is for arrays and tensors; a {what} says itself what its colours are. Leave it out."
        )
    if isinstance(image, str | os.PathLike):
        return reader.read(Path(image), grey=grey)
    if isinstance(image, Image.Image):
        try:
            return reader.convert(image)
        except (DataError, Warning):  # a warning, where the user has made errors of them
            raise
        except Exception as error:  # Pillow decodes an opened file only here, and may raise any exception
            name = getattr(image, "filename", "") or "given"
            raise DataError(f"cannot read the image {name!r}: {error or type(error).__name__}. Give another.") from error
    if isinstance(image, np.ndarray) or is_tensor(image):
        return reader.convert(Image.fromarray(pixels(image, colour == "BGR")))
    raise _no_image(image)


def several(images: ImageLike) -> Sequence[ImageLike]:
    """One image or several, as a sequence; DataError says why anything else is rejected."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "OU":  # of paths, or images of many sizes
        return list(images)
    if isinstance(images, np.ndarray) or is_tensor(images):
        return list(images) if holds_several(images) else [images]
    if isinstance(images, Iterable) and not isinstance(images, bytes | bytearray | Mapping):
        return list(images)
    raise _no_image(images)


def _no_image(value: object) -> DataError:
    step = "Decode it: PIL.Image.open(io.BytesIO(data))." if isinstance(value, bytes | bytearray) else "Check what you give."
    kinds = "a path, a PIL image, an array, a tensor or a list of these"
    return DataError(f"an image must be {kinds}; this is of type {type(value).__name__}. {step}")
