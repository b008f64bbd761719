"""A canvas of an image's size, on which annotations are drawn: a pixel is defective if its centre lies inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from anomaly_core import filled_polygon

SLACK = 1.0  # pixels by which programs let a shape reach over the border


class Drawing:
    """Draws shapes given in pixels, (0, 0) being the upper left corner of the image; ValueError for what is no such shape.

    Pillow's polygons would also mark each pixel that the outline touches, 5 to 20 % more than the area of a small defect.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._pixels = np.zeros((height, width), dtype=bool)

    def image(self) -> Image.Image:
        """What was drawn: mode ``L``, 0 and 255."""
        return Image.fromarray(self._pixels.astype(np.uint8) * 255)

    def polygon(self, points: Any) -> None:
        """A closed outline of three or more points, filled; where it crosses itself, by the even-odd rule."""
        corners = self.points(points, 3)
        self._add(filled_polygon(np.array(corners), self.height, self.width), corners)

    def box(self, left: Any, top: Any, right: Any, bottom: Any) -> None:
        """A rectangle between two corners, in any order."""
        self.polygon([[left, top], [right, top], [right, bottom], [left, bottom]])

    def circle(self, centre: Any, rim: Any) -> None:
        """A disc, from its centre and a point on its rim; what lies outside of the image is cut off."""
        (x, y), (x1, y1) = self.points([centre], 1)[0], _numbers([rim])[0]
        rows, columns = np.ogrid[: self.height, : self.width]
        self._add((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= (x1 - x) ** 2 + (y1 - y) ** 2, [(x, y)])

    def line(self, points: Any) -> None:
        """A line of one pixel's width through one or more points."""
        self._outline(self.points(points, 1))

    def pixels(self, mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> None:
        """Pixels, bool (h, w), from a corner on; ValueError if they reach out of the image."""
        height, width = mask.shape
        if left < 0 or top < 0 or left + width > self.width or top + height > self.height:
            raise ValueError(f"{width}x{height} pixels from ({left}, {top}) on reach out of {self._size}")
        self._pixels[top : top + height, left : left + width] |= mask

    def require_size(self, width: Any, height: Any) -> None:
        """ValueError if a file says that its image has another size; None says nothing."""
        if (width, height) not in ((self.width, self.height), (None, None)):
            turned = ", turned by its metadata" if (height, width) == (self.width, self.height) else ""
            raise ValueError(f"it is for an image of {width!r}x{height!r}, and this one is {self.width}x{self.height}{turned}")

    def points(self, values: Any, least: int) -> list[tuple[float, float]]:
        """Checked points in the image; ValueError for fewer than ``least``, or one outside of it."""
        points = _numbers(values)
        if len(points) < least:
            raise ValueError(f"{len(points)} points are no such shape; it takes {least}")
        for x, y in points:
            if not (-SLACK <= x <= self.width + SLACK and -SLACK <= y <= self.height + SLACK):
                raise ValueError(f"the point ({x:g}, {y:g}) lies outside of {self._size}")
        return points

    @property
    def _size(self) -> str:
        return f"the image, which is {self.width}x{self.height}"

    def _add(self, inside: NDArray[np.bool_], corners: Sequence[tuple[float, float]]) -> None:
        if inside.any():
            self._pixels |= inside
        else:  # thinner than a pixel, and still a defect
            self._outline(corners)

    def _outline(self, corners: Sequence[tuple[float, float]]) -> None:
        picture = Image.new("1", (self.width, self.height))
        last = self.width - 1, self.height - 1
        pixels = [tuple(min(max(math.floor(a), 0), b) for a, b in zip(point, last, strict=True)) for point in corners]
        ImageDraw.Draw(picture).line([*pixels, pixels[0]] if len(pixels) == 1 else pixels, fill=1)
        self._pixels |= np.asarray(picture)


def _numbers(values: Any) -> list[tuple[float, float]]:
    if not isinstance(values, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in values):
        raise ValueError("its points are no list of pairs")
    for number in (number for pair in values for number in pair):
        if isinstance(number, bool) or not isinstance(number, int | float) or not -1e9 < number < 1e9:  # NaN neither
            raise ValueError(f"{str(number)[:40]!r} is no coordinate")
    return [(float(x), float(y)) for x, y in values]
