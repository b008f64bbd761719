"""Variation: copies of training images that are brighter, turned or shifted, for a memory that must not mind such changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly_core.config.sections import DataConfig
from anomaly_core.errors import ConfigError

REACH = {"brightness": (0.2, 9.0), "rotate": (5.0, 180.0), "shift": (0.02, 0.5)}  # name -> (unless it is said, the largest)


@dataclass(frozen=True)
class Variation:
    """How many copies of an image there are beside it, and how far they may differ from it; 0 is not at all.

    Attributes:
        copies: of each image.
        seed: governs what is drawn.
        brightness: values are multiplied by up to 1 + brightness, or divided by as much; alike on a log scale.
        rotate: degrees, either way.
        shift: share of the image's width and height, either way; whole pixels.
    """

    copies: int
    seed: int
    brightness: float = 0.0
    rotate: float = 0.0
    shift: float = 0.0

    @classmethod
    def from_config(cls, config: DataConfig, seed: int) -> Variation | None:
        """What ``data.augment`` requests; None without it. ConfigError if a reach is not possible."""
        reaches = {}
        for text in config.augment or ():
            name, _, reach = text.partition(":")
            usual, largest = REACH[name]
            reaches[name] = float(reach) if reach else usual
            if not 0 < reaches[name] <= largest:
                raise ConfigError(
                    f"data.augment={text!r}: expected more than 0 and at most {largest:g}, such as {name}:{usual:g}."
                )
        return cls(config.augment_copies, seed, **reaches) if reaches else None

    def copy(self, pixels: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """A varied copy of uint8 (H, W, 3), always the same one for the same number. Borders are mirrored: none is black."""
        level, turn, *moves = np.random.default_rng((self.seed, number)).uniform(-1, 1, 4).tolist()
        if self.rotate or self.shift:
            across, down = (round(move * self.shift * side) for move, side in zip(moves, pixels.shape[1::-1], strict=True))
            pixels = _moved(pixels, turn * self.rotate, across, down)
        factor = (1 + self.brightness) ** level
        return np.clip(pixels * factor, 0, 255).round().astype(np.uint8) if self.brightness else pixels


def _moved(pixels: NDArray[np.uint8], degrees: float, across: int, down: int) -> NDArray[np.uint8]:
    """The picture turned about its centre, then moved to the right and down; bilinear, unless it is not turned."""
    height, width = pixels.shape[:2]
    corner = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 1 if degrees else 0
    border = corner + max(abs(across), abs(down))
    image = Image.fromarray(np.pad(pixels, ((border, border), (border, border), (0, 0)), mode="symmetric"))
    if degrees:
        image = image.rotate(degrees, Image.Resampling.BILINEAR)
    left, top = border - across, border - down
    return np.asarray(image.crop((left, top, left + width, top + height)))
