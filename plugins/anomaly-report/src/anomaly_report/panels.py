"""The pictures in a run's folder, by the names in its predictions.csv, both of which a stranger may have written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from anomaly_core import inside, open_untrusted
from anomaly_report.pictures import COMPRESSION

LARGEST, MOST_PIXELS = 1 << 26, 1 << 26  # bytes of a file, 64 MiB; pixels of a picture


def panel_size(folder: Path, name: str) -> tuple[int, int]:
    """Width and height of a picture; OSError if it is no PNG or JPEG file below the folder, or too large."""
    with _opened(folder, name) as picture:
        return picture.size


def panel(folder: Path, name: str) -> Image.Image:
    """A picture, decoded, as RGB; OSError as in :func:`panel_size`, or if it is damaged."""
    with _opened(folder, name) as picture:
        return picture.convert("RGB")


def panel_png(folder: Path, name: str) -> bytes:
    """The same as a PNG file of pixels alone: what else the file may have held is not passed on."""
    buffer = io.BytesIO()
    panel(folder, name).save(buffer, format="PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[Image.Image]:
    try:
        with open_untrusted(inside(folder, name), LARGEST) as file, Image.open(file, formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise OSError(f"it has {picture.width} x {picture.height} pixels")
            yield picture
    except UnidentifiedImageError:
        raise OSError("it is neither PNG nor JPEG") from None
    except Exception as error:  # Pillow raises any exception for a damaged file
        raise error if isinstance(error, OSError) else OSError(f"{type(error).__name__}: {error}") from error
