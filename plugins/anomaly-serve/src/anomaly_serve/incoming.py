"""Images as they come, file bytes or raw pixels, decoded as the files of a run are, with limits before decoding."""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core import Detector
from anomaly_drift import image_facts
from anomaly_serve.faults import TooLarge, Unusable

Pixels = NDArray[np.uint8]
_SUFFIXES = (  # how the bytes of a file begin
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
    (b"GIF8", ".gif"),
)
MOST_PIXELS = 64_000_000


class SentFile(BytesIO):
    """The bytes of an image file; as text, what the sender calls it."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name = name or "without a name"

    def __str__(self) -> str:
        return self._name


@dataclass(frozen=True)
class Incoming:
    """A decoded image.

    Attributes:
        placed: uint8 (h, w, 3) RGB, in the geometry of the detector.
        size: (height, width) of the upright image.
        file, suffix: the bytes to keep, and what a file of them ends with; None where the image is not kept.
        milliseconds: that decoding took.
        facts: cheap statistics of ``placed``, for drift.
    """

    placed: Pixels
    size: tuple[int, int]
    file: bytes | None
    suffix: str
    milliseconds: float
    facts: dict[str, float]


def decoded(detector: Detector, image: bytes | Pixels, *, name: str, most_pixels: int, keep: bool) -> Incoming:
    """Decode an image for a detector; thread-safe.

    Args:
        image: the bytes of a file of any format that the core reads, or uint8 (H, W, 3) RGB or (H, W).

    Raises:
        TooLarge: it has more pixels than ``most_pixels``; found before decoding, by the header.
        DataError: it is no image, or one that the detector cannot use.
    """
    start = time.perf_counter()
    if isinstance(image, np.ndarray):
        height, width = image.shape[:2]
        _require_pixels(height, width, most_pixels)
        placed = detector.place(image)  # type: ignore[attr-defined]  # every detector of this project has it
        file = _as_file(image) if keep else None
        return _incoming(placed, (height, width), file, ".png", start)
    sent: Any = SentFile(image, name)
    height, width = detector.reader.whole.size(sent)
    _require_pixels(height, width, most_pixels)
    placed = detector.decode(sent)
    return _incoming(placed, (height, width), image if keep else None, suffix_of(image), start)


def _incoming(placed: Pixels, size: tuple[int, int], file: bytes | None, suffix: str, start: float) -> Incoming:
    return Incoming(placed, size, file, suffix, 1000 * (time.perf_counter() - start), image_facts(placed))


def suffix_of(data: bytes) -> str:
    """What the name of an image file with these bytes ends with."""
    return next((suffix for start, suffix in _SUFFIXES if data.startswith(start)), ".img")


def from_raw(data: bytes, width: int, height: int, colour: str) -> Pixels:
    """Raw pixels, row by row from the top, as uint8 (H, W, 3) RGB or (H, W); Unusable if the number of bytes does not fit.

    Args:
        colour: ``RGB``, ``BGR`` (as cameras and OpenCV have it) or ``GREY``.
    """
    channels = 1 if colour == "GREY" else 3
    if len(data) != width * height * channels:
        raise Unusable(
            f"{width} x {height} pixels of {colour} are {width * height * channels:,} bytes, and {len(data):,} came. Send "
            "whole rows without padding, one byte a sample, and say their width, height and colour."
        )
    pixels = np.frombuffer(data, dtype=np.uint8)
    if channels == 1:
        return pixels.reshape(height, width)
    image = pixels.reshape(height, width, 3)
    return np.ascontiguousarray(image[..., ::-1]) if colour == "BGR" else image


def _require_pixels(height: int, width: int, most: int) -> None:
    if height * width > most:
        raise TooLarge(
            f"the image has {width} x {height} pixels, and this service takes {most:,}. Send a smaller one, or start the "
            f"service with --max-pixels {height * width} or more."
        )


def _as_file(image: Pixels) -> bytes:
    """A PNG, compressed in little time."""
    file = BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=1)
    return file.getvalue()
