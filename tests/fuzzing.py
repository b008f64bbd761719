"""Random bytes and text where files and options are read: a clean result or an AnomalyError, never another exception.

``make soak`` tries 10,000 inputs of each kind, or as many as its time allows; SOAK_SEED repeats them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

FEW, MANY = 40, 10_000
KINDS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")


def real_files() -> list[bytes]:
    """A small image in every format and mode that this Pillow writes: what random damage starts from."""
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8))
    files = []
    for kind in KINDS:
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"):
            buffer = io.BytesIO()
            try:
                colour.convert("L" if mode in ("I;16", "I", "F") else mode).convert(mode).save(buffer, kind)
            except (OSError, ValueError, KeyError):  # not every format holds every mode
                continue
            files.append(buffer.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    colour.save(buffer, "JPEG", exif=exif)
    return [*files, buffer.getvalue()]


FILES = real_files()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A real file with bytes changed, cut off, repeated or put in; or random bytes altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 3)):
            case 0 if content:
                content[place] = draw(st.integers(0, 255))
            case 1:
                del content[place:]
            case 2:
                content[place:place] = draw(st.binary(max_size=8))
            case _:
                del content[place : place + draw(st.integers(1, 16))]
    return bytes(content)


words = st.text(max_size=12)

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words, st.dates())


def attempt(
    strategy: Any, check: Callable[[Path, Any], None], folder: Path, count: int, start: int, seconds: float = 600
) -> int:
    """Try as many inputs, fewer where the time runs out; how many it were."""
    tried, end = [0], time.monotonic() + seconds

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None if count == FEW else 20_000,  # milliseconds: what takes longer hangs
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=strategy)
    def once(content: Any) -> None:
        if time.monotonic() > end:
            return
        tried[0] += 1
        check(folder / "input.png", content)

    once()
    assert tried[0] >= min(count, 20)
    return tried[0]
