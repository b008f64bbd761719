"""Tiles of a large image: their positions, and how tile predictions are blended into one map without seams."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from PIL import Image
from torch import Tensor

from anomaly_core.config.sections import DataConfig
from anomaly_core.errors import ConfigError
from anomaly_core.imaging.geometry import pair

Span = tuple[int, int]  # first pixel, one past the last


@dataclass(frozen=True)
class Box:
    """A tile's position in its image: ``image[:, top:bottom, left:right]``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class Tiling:
    """How images are cut: tile ``size`` (height, width) and minimum ``overlap`` of neighbours, in pixels of the image.

    All tiles of an image have the same size. The last tiles are shifted inwards to stay complete, so they overlap their
    neighbours by more. A side no longer than a tile's is not cut; a small image is a single tile, the image itself.
    """

    size: tuple[int, int]
    overlap: int

    @classmethod
    def from_config(cls, config: DataConfig) -> Tiling | None:
        """From ``data.tile`` and ``data.tile_overlap``; ConfigError if tiles would overlap by more than half a side."""
        if config.tile is None:
            return None
        size = pair(config.tile)
        overlap = min(size) // 8 if config.tile_overlap is None else config.tile_overlap
        if 2 * overlap > min(size):
            raise ConfigError(
                f"data.tile_overlap={overlap} is more than half of data.tile={size[0]},{size[1]}. "
                f"Choose at most {min(size) // 2}; an eighth of the tile is usual."
            )
        return cls(size, overlap)

    def boxes(self, height: int, width: int) -> list[Box]:
        """The tiles of an image, row by row; each pixel lies in at least one of them."""
        return [
            Box(top, left, bottom, right)
            for top, bottom in spans(height, self.size[0], self.overlap)
            for left, right in spans(width, self.size[1], self.overlap)
        ]


def cut(image: Tensor, boxes: Sequence[Box]) -> Iterator[Image.Image]:
    """Tiles of a (3, H, W) image in [0, 1], in bytes as a network saw them in fitting. A row of tiles is turned into bytes at
    once: each tile by itself takes longer, and the whole image would take a quarter of its memory again."""
    for (top, bottom), of_row in groupby(boxes, key=lambda box: (box.top, box.bottom)):
        row = list(of_row)
        first, last = row[0].left, row[-1].right
        pixels = (image[:, top:bottom, first:last] * 255).round_().to(torch.uint8)
        band = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
        for box in row:
            yield band.crop((box.left - first, 0, box.right - first, bottom - top))


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """The tiles' positions along one side.

    >>> spans(1000, 512, 64)
    [(0, 512), (448, 960), (488, 1000)]
    >>> spans(300, 512, 64)
    [(0, 300)]
    """
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = (min(i * (tile - overlap), length - tile) for i in range(count))
    return [(start, start + tile) for start in starts]


def windows(parts: list[Span], length: int, overlap: int) -> list[Tensor]:
    """The weights of each tile along one side, float32 (tile,). They sum to one at every pixel. They rise and fall as a
    squared sine over ``overlap`` pixels at the tile's ends, except at the image's border."""
    ramp = torch.sin((torch.arange(overlap, dtype=torch.float64) + 0.5) / max(1, overlap) * (math.pi / 2)) ** 2
    weights = []
    total = torch.zeros(length, dtype=torch.float64)
    for start, end in parts:
        weight = torch.ones(end - start, dtype=torch.float64)
        if overlap and start > 0:
            weight[:overlap] *= ramp
        if overlap and end < length:
            weight[-overlap:] *= ramp.flip(0)
        total[start:end] += weight
        weights.append(weight)
    return [(weight / total[start:end]).float() for (start, end), weight in zip(parts, weights, strict=True)]


class Canvas:
    """Blends the maps of tiles, on a device, into one picture (1, C, height, width)."""

    def __init__(self, tiling: Tiling, height: int, width: int, device: torch.device | str = "cpu") -> None:
        self._size = height, width
        self._device = device
        rows, columns = (spans(length, tile, tiling.overlap) for length, tile in zip(self._size, tiling.size, strict=True))
        # The 2D windows are products of 1D weights, so weights that sum to one per side also sum to one in 2D.
        self._rows = dict(zip(rows, windows(rows, height, tiling.overlap), strict=True))
        self._columns = dict(zip(columns, windows(columns, width, tiling.overlap), strict=True))
        self._picture: Tensor | None = None

    def add(self, box: Box, tile: Tensor) -> None:
        """Add a float (C, h, w) tile of the box's size at its position."""
        if self._picture is None:
            self._picture = torch.zeros(tile.shape[0], *self._size, device=self._device)
        row, column = self._rows[box.top, box.bottom], self._columns[box.left, box.right]
        window = (row[:, None] * column[None]).to(tile.device)
        self._picture[:, box.top : box.bottom, box.left : box.right] += (tile * window).to(self._device)

    def picture(self) -> Tensor | None:
        """float32 (1, C, height, width); None if no tile was added."""
        return None if self._picture is None else self._picture[None]
