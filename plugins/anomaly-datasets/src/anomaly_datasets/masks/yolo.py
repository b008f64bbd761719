"""YOLO's text files, one for an image: a line ``class x y w h`` is a box, ``class x1 y1 x2 y2 ...`` a polygon.

Source: https://docs.ultralytics.com/datasets/segment/; coordinates are shares of the image's width and height.
"""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_core import read_untrusted
from anomaly_datasets.masks.canvas import Drawing
from anomaly_datasets.masks.sources import Annotation

LARGEST = 1 << 24  # bytes


@dataclass(frozen=True)
class YoloMask(Annotation):
    """All boxes and polygons of a YOLO file, whatever their classes."""

    def draw(self, canvas: Drawing) -> None:
        text = read_untrusted(self.path, LARGEST).decode("utf-8-sig")
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    _draw(canvas, line.split())
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from None


def _draw(canvas: Drawing, words: list[str]) -> None:
    values = [float(word) for word in words[1:]]
    if len(values) in (4, 5):  # the fifth is a model's confidence
        x, y, width, height = values[:4]
        if not (0 < width <= 1 and 0 < height <= 1):
            raise ValueError(
                f"a box {width:g} wide and {height:g} high is none; both are shares of the image, above 0 and up to 1"
            )
        corners = [(x + i * width / 2, y + j * height / 2) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    elif len(values) >= 6 and len(values) % 2 == 0:
        corners = list(zip(values[::2], values[1::2], strict=True))
    else:
        raise ValueError(f"{len(words)} values; a box has 5, class x y w h, and a polygon its class and three or more points")
    if any(not -0.5 <= value <= 1.5 for corner in corners for value in corner):
        x, y = next(corner for corner in corners if any(not -0.5 <= value <= 1.5 for value in corner))
        raise ValueError(f"the point ({x:g}, {y:g}) lies outside of the image: coordinates are shares, from 0 to 1")
    canvas.polygon([(x * canvas.width, y * canvas.height) for x, y in corners])
