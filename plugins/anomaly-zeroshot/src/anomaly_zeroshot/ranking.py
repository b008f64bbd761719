"""Rows of ranking.csv: a run's images, the highest score first. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from anomaly_core import TestedImage

RANKING = "ranking.csv"


def ranked(images: Iterable[TestedImage]) -> list[dict[str, Any]]:
    """``rank`` from 1, ``score``, ``path``, and the ``picture`` below the run's folder, if there is one. Images of the same
    score have the same rank, and those without a finite score have none."""
    scored = sorted((image for image in images if math.isfinite(image.score)), key=lambda image: (-image.score, image.path))
    rows: list[dict[str, Any]] = []
    for place, image in enumerate(scored, 1):
        tied = rows and rows[-1]["score"] == image.score
        rank = rows[-1]["rank"] if tied else place
        rows.append({"rank": rank, "score": image.score, "path": image.path, "picture": image.picture or ""})
    return rows
