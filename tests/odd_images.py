"""Every kind of image file that a line or a download has ever produced, good and bad."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_core.imaging import formats
from tiny.data import draw, write_image

COLOUR = (200, 100, 50)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, COLOUR)


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def rotated() -> bytes:
    """A JPEG that was taken with the camera on its side: 40 x 30 as stored, 30 x 40 upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(colour(), "JPEG", quality=95, exif=exif)


def animated() -> bytes:
    return encoded(colour(), "PNG", save_all=True, append_images=[Image.new("RGB", (40, 30), (0, 0, 255))])


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.full((30, 40), 25700, dtype=np.uint16)))


BAD: dict[str, bytes] = {
    "truncated.png": encoded(noise())[:2000],
    "truncated.jpg": encoded(noise(), "JPEG")[:1500],
    "empty.png": b"",
    "text.png": b"This is no picture.\n",
    "bomb.png": bomb(),
}


GOOD: dict[str, tuple[bytes, tuple[int, int], tuple[int, int, int]]] = {
    "cmyk.jpg": (encoded(colour().convert("CMYK"), "JPEG", quality=95), (30, 40), COLOUR),
    "palette.png": (encoded(colour().convert("P", palette=Image.Palette.ADAPTIVE)), (30, 40), COLOUR),
    "one-bit.png": (encoded(Image.new("1", (40, 30), 1)), (30, 40), (255, 255, 255)),
    "sixteen-bits.png": (sixteen_bits(), (30, 40), (100, 100, 100)),
    "alpha.png": (encoded(Image.new("RGBA", (40, 30), (*COLOUR, 10))), (30, 40), COLOUR),
    "grey-alpha.png": (encoded(Image.new("LA", (40, 30), (70, 10))), (30, 40), (70, 70, 70)),
    "animated.png": (animated(), (30, 40), COLOUR),
    "rotated.jpg": (rotated(), (40, 30), COLOUR),
    "point.png": (encoded(colour((1, 1))), (1, 1), COLOUR),
    "stripe.png": (encoded(colour((20_000, 10))), (10, 20_000), COLOUR),
    "new\nline.png": (encoded(colour()), (30, 40), COLOUR),
    os.fsdecode(b"l\xe4tin.png"): (encoded(colour()), (30, 40), COLOUR),
}


def refusing(*paths: Path) -> Callable[..., Any]:
    """``open_image`` as it is for a user without the right to read some files; root may read everything."""
    real = formats.open_image

    def opened(file: Any) -> Any:
        if Path(file.name) in paths:
            raise PermissionError(13, "Permission denied", file.name)
        return real(file)

    return opened


def spoil(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every kind of bad image in a folder; their names."""
    for name, content in BAD.items():
        (folder / name).write_bytes(content)
    write_image(folder / "forbidden.png", draw(50)[0])
    monkeypatch.setattr(formats, "open_image", refusing(folder / "forbidden.png"))
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "folder.png").mkdir()
    return [*BAD, "forbidden.png", "dangling.png", "folder.png"]
