"""Images of a generated part: a disc with a turned surface on a dark ground; a defect is a scratch on it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw


def part(seed: int, *, defect: bool = False, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """RGB of (width, height)."""
    draw, (width, height) = np.random.default_rng(seed), size
    y, x = np.mgrid[:height, :width]
    centre = width / 2 + draw.normal(0, 3), height / 2 + draw.normal(0, 3)
    radius = 0.38 * min(size)
    distance = np.hypot(x - centre[0], y - centre[1])
    disc = 150 + 12 * np.sin(distance / 6) + draw.normal(0, 5, (height, width))
    values = np.where(distance < radius, disc, draw.normal(60, 4, (height, width)))
    image = Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if defect:
        angle = draw.uniform(0, 2 * np.pi)
        start = centre[0] + np.cos(angle) * radius * 0.3, centre[1] + np.sin(angle) * radius * 0.3
        end = start[0] + radius * draw.uniform(0.3, 0.5), start[1] + radius * draw.uniform(-0.3, 0.3)
        ImageDraw.Draw(image).line([start, end], fill=(245, 245, 240), width=max(3, round(radius / 20)))
    return image


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """A part, or with ``empty`` a picture without one, as the bytes of a PNG file."""

    def drawn(seed: int, *, defect: bool = False, size: tuple[int, int] = (64, 48), empty: bool = False) -> bytes:
        file = BytesIO()
        noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        image = Image.fromarray(noise) if empty else part(seed, defect=defect, size=size)
        image.save(file, "png", compress_level=1)
        return file.getvalue()

    return drawn
