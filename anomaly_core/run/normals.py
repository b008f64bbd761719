"""The normal images that set a run's threshold, and which of them stand out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from anomaly_core.run.records import Finite

STANDS_OUT = 3.5  # robust deviations


@dataclasses.dataclass
class NormalImage:
    """A row of normals.csv: a normal image that a detector scored which did not see it.

    Attributes:
        score: the raw score.
        map_maximum: the greatest value of its map; None without maps.
        suspect: whether the score stands out, by :func:`stands_out`.
        dropped: whether the run was fitted without it for that reason (``data.drop_suspects``).
        picture: a picture's path below the run's folder; empty where none was drawn.
    """

    path: str
    category: str
    score: Finite
    map_maximum: Finite | None = None
    suspect: bool = False
    dropped: bool = False
    picture: str = ""

    def to_row(self) -> dict[str, Any]:
        """Cells of a CSV file; unknown values are empty."""
        cells = {name: repr(value) if isinstance(value, float) else value for name, value in vars(self).items()}
        return {name: int(cell) if isinstance(cell, bool) else "" if cell is None else cell for name, cell in cells.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> NormalImage:
        """The image from a row of :meth:`to_row`; ValueError if a cell is missing, of the wrong type or out of range."""
        return _NORMAL.validate_python({**row, "map_maximum": row.get("map_maximum") or None}, strict=False)


_NORMAL = TypeAdapter(NormalImage)


def robust_deviations(scores: Sequence[float]) -> list[float]:
    """How far each score lies above the median, in robust standard deviations: 1.4826 times the median distance of the upper
    half from the median, for scores have a long upper tail. A quarter of all may be anything before it fails. Zeros where the
    upper half does not differ.

    Source: Rosenmai, Using the Median Absolute Deviation to Find Outliers, 2013 (each side apart).
    """
    middle, upper = median(scores) if scores else 0.0, sorted(scores)[(len(scores) + 1) // 2 :]
    spread = 1.4826 * (median(upper) - middle) if upper else 0.0
    return [(score - middle) / spread if spread > 0 else 0.0 for score in scores]


def stands_out(scores: Sequence[float]) -> list[bool]:
    """Which scores lie more than 3.5 :func:`robust_deviations` above the median (Iglewicz and Hoaglin, How to Detect and Handle
    Outliers, 1993). Of clean normal images that is about one in a hundred; of fewer than six it is none."""
    return [deviation > STANDS_OUT for deviation in robust_deviations(scores)]


def mark_suspects(images: Iterable[NormalImage]) -> None:
    """Say of each image whether it is a suspect: whether its score stands out among those of its category."""
    by_category: dict[str, list[NormalImage]] = {}
    for image in images:
        by_category.setdefault(image.category, []).append(image)
    for part in by_category.values():
        for image, odd in zip(part, stands_out([image.score for image in part]), strict=True):
            image.suspect = odd
