"""Outlines on a picture: smooth lines around what exceeds a level, whatever the size of a map's cells. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_FINER = 4  # lines are drawn on a grid so much finer, and then reduced: Pillow's own have steps
_WIDE, _HALO = 1.75, 3.5  # pixels
_FAR = 1e300  # lines can be interpolated between this and its negative


def outlines(values: NDArray[np.float64], level: float, size: tuple[int, int]) -> list[NDArray[np.float64]]:
    """The lines (N, 2) of x and y around what exceeds a level, as a picture of that (width, height) has them; NaN is below.

    Args:
        values: float (H, W), interpolated linearly between the middles of cells.
        level: what equals it is not above.
    """
    axes = []
    for cells, length in zip(values.shape[::-1], size, strict=True):
        axes.append(np.concatenate([[0], np.arange(cells) + 0.5, [cells]]) * (length / cells))
    known = np.nan_to_num(values, nan=-_FAR, posinf=_FAR, neginf=-_FAR)
    x, y = axes
    lines: Any = contourpy.contour_generator(x, y, np.pad(known, 1, mode="edge"), name="serial").lines(level)
    return list(lines)


def traced(picture: Image.Image, lines: Sequence[NDArray[np.float64]], colour: tuple[int, int, int]) -> None:
    """Draw lines on a picture, with a dark rim that sets them off from any ground."""
    if not lines:
        return
    for wide, shade, share in ((_HALO, (0, 0, 0), 0.45), (_WIDE, colour, 1.0)):
        stencil = Image.new("L", (picture.width * _FINER, picture.height * _FINER))
        draw = ImageDraw.Draw(stencil)
        for line in lines:
            points = [(x, y) for x, y in (line * _FINER).tolist()]
            draw.line(points, fill=round(255 * share), width=round(wide * _FINER))
        picture.paste(shade, mask=stencil.resize(picture.size, Image.Resampling.BOX))
