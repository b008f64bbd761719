"""Small pictures: stripes, of which some have a blot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(number: int, blot: bool) -> Image.Image:
    """64 x 64 stripes with noise of their own; a blot hides some."""
    draw = np.random.default_rng(number)
    rows = 128 + 60 * np.sin(np.arange(64) / 3)[:, None, None] + draw.normal(0, 6, (64, 64, 3))
    if blot:
        top, left = draw.integers(8, 40, 2)
        rows[top : top + 16, left : left + 16] = 30
    return Image.fromarray(rows.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures, two of them with a blot."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(12):
        blot = number in (3, 8)
        picture(number, blot).save(folder / f"{number:02d}{'-blot' * blot}.png")
    return folder
