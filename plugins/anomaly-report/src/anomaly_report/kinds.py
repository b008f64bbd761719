"""How well each kind of defect was told from the normal images: one figure for all of them hides the kind that is missed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anomaly_metrics import auroc
from anomaly_report.finished import FinishedRun, Image
from anomaly_report.verdicts import HIT, verdict


class DefectKind(NamedTuple):
    """A kind's name, its images, how many were found (None without a threshold), and their AUROC against the normal images."""

    name: str
    images: int
    found: int | None
    auroc: float


def defect_kinds(run: FinishedRun) -> list[DefectKind]:
    """The kinds of defect of a run of one category, the worst first; empty where there are not two, or no normal image."""
    scored = [image for image in run.images if image.score is not None]
    normal = [image.score for image in scored if image.label == 0]
    kinds: dict[str, list[Image]] = {}
    for image in scored:
        if image.label:
            kinds.setdefault(image.defect, []).append(image)
    if len(kinds) < 2 or not normal or len(run.categories) > 1:
        return []
    return sorted((_kind(name, images, normal, run.threshold) for name, images in kinds.items()), key=lambda kind: kind.auroc)


def _kind(name: str, images: list[Image], normal: list[float | None], threshold: float | None) -> DefectKind:
    scores = np.array([*normal, *(image.score for image in images)], dtype=float)
    labels = np.repeat([0, 1], [len(normal), len(images)])
    found = None if threshold is None else sum(verdict(image, threshold) == HIT for image in images)
    return DefectKind(name, len(images), found, auroc(scores, labels))
