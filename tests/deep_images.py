"""PNG and TIFF files of more than 8 bits a sample, byte by byte: Pillow writes few of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tag = tuple[int, str, Sequence[Any]]  # number, struct's letter, values
SMIN, SMAX = 340, 341
_TYPES = {"H": 3, "I": 4, "f": 11}


def png16(values: NDArray[Any]) -> bytes:
    """A PNG of 16 bits: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA."""
    height, width = values.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(
    values: NDArray[Any], *, planar: bool = False, order: str = "<", packed: bool = False, white_is_zero: bool = False,
    tags: Sequence[Tag] = (),
) -> bytes:  # fmt: skip
    """A TIFF of (H, W) or (H, W, 3) in their own type: its planes apart, of either byte order, deflated, inverted."""
    height, width = values.shape[:2]
    count = 1 if values.ndim == 2 else values.shape[2]
    values = values.astype(values.dtype.newbyteorder(">" if order == ">" else "<"))
    parts = [part.tobytes() for part in (np.moveaxis(values, -1, 0) if planar else [values])]
    parts = [zlib.compress(part) for part in parts] if packed else parts
    starts = [8 + sum(map(len, parts[:number])) for number in range(len(parts))]
    all_tags: list[Tag] = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [8 * values.itemsize] * count),
        (259, "H", [8 if packed else 1]),
        (262, "H", [0 if white_is_zero else 1 if count == 1 else 2]),
        (273, "I", starts),
        (277, "H", [count]),
        (278, "I", [height]),
        (279, "I", [len(part) for part in parts]),
        (284, "H", [2 if planar else 1]),
        (339, "H", [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * count),
        *tags,
    ]
    directory = 8 + sum(map(len, parts))
    room = directory + 2 + 12 * len(all_tags) + 4
    entries, beyond = b"", b""
    for number, letter, content in sorted(all_tags):
        packed_values = struct.pack(f"{order}{len(content)}{letter}", *content)
        entries += struct.pack(f"{order}HHI", number, _TYPES[letter], len(content))
        if len(packed_values) > 4:
            entries += struct.pack(f"{order}I", room + len(beyond))
            beyond += packed_values
        else:
            entries += packed_values.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count_of_tags = struct.pack(f"{order}H", len(all_tags))
    return mark + struct.pack(f"{order}I", directory) + b"".join(parts) + count_of_tags + entries + bytes(4) + beyond
