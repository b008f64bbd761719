"""Masks that are files, and masks that draw themselves."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from anomaly_core import DataError, MaskSource, Sample, read_mask, screen
from tiny.data import draw, write_image

pytestmark = pytest.mark.reliability("input")


@dataclass(frozen=True)
class Stripe(MaskSource):
    """The top row of a mask of 8 x 6 pixels."""

    def read(self) -> Image.Image:
        mask = Image.new("L", (8, 6))
        mask.paste(255, (0, 0, 8, 1))
        return mask


def test_a_mask_may_be_anything_that_draws_itself(tmp_path: Path) -> None:
    sample = Sample(write_image(tmp_path / "a.png", draw(1, 48)[0]), 1, Stripe(tmp_path / "a.txt"))
    stripe = Stripe(tmp_path / "a.txt")
    assert pickle.loads(pickle.dumps(stripe)) == sample.mask_path and len({stripe, sample.mask_path}) == 1
    assert sample.mask_files == (tmp_path / "a.txt",)
    assert sum(pixel > 0 for pixel in read_mask(stripe).tobytes()) == 8
    with pytest.raises(DataError, match=r"mask '.*a\.txt' is 8x6, its image '.*a\.png' 48x48"):
        screen([sample], "error")
