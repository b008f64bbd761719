"""LabelMe's JSON files, one for an image: polygons, rectangles, circles, lines, points and small masks.

Source: the format as https://github.com/wkentaro/labelme describes it; coordinates are in pixels of the upright image.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from anomaly_core import parse_json, read_untrusted
from anomaly_datasets.masks.canvas import Drawing
from anomaly_datasets.masks.sources import Annotation


@dataclass(frozen=True)
class LabelMeMask(Annotation):
    """All shapes of a LabelMe file, whatever their labels."""

    def draw(self, canvas: Drawing) -> None:
        values = parse_json(read_untrusted(self.path))
        shapes = values.get("shapes")
        if not isinstance(shapes, list):
            raise ValueError("it has no list of shapes, as a LabelMe file has")
        canvas.require_size(values.get("imageWidth"), values.get("imageHeight"))
        for number, shape in enumerate(shapes, 1):
            try:
                _draw(canvas, shape if isinstance(shape, dict) else {})
            except ValueError as error:
                raise ValueError(f"shape {number}: {error}") from None


def _draw(canvas: Drawing, shape: dict[str, Any]) -> None:
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind in ("polygon", "oriented_rectangle"):
        canvas.polygon(points)
    elif kind in ("line", "linestrip", "point", "points"):
        canvas.line(points)
    elif kind in ("rectangle", "circle", "mask"):
        first, second = canvas.points(points, 2)[:2] if kind != "circle" else _two(points)
        if kind == "rectangle":
            canvas.box(*first, *second)
        elif kind == "circle":
            canvas.circle(first, second)
        else:
            canvas.pixels(_pixels(shape.get("mask")), round(first[0]), round(first[1]))
    else:
        raise ValueError(f"shapes of the kind {str(kind)[:40]!r} are not known; draw it as a polygon")


def _two(points: Any) -> tuple[Any, Any]:
    if not isinstance(points, list) or len(points) != 2:
        raise ValueError("a circle has two points, its centre and one on its rim")
    return points[0], points[1]


def _pixels(text: Any) -> Any:
    """The picture in base64 that a shape of the kind ``mask`` holds: bool (h, w)."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(text), validate=True)), formats=["PNG"]) as image:
            return np.asarray(image.convert("L")) != 0
    except Exception as error:  # Pillow's decoders raise many kinds of exceptions
        raise ValueError(f"its mask is no PNG picture ({type(error).__name__})") from error
