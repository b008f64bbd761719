"""FinishedRun: what a complete run's folder holds, read and checked once for figures and page."""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import CONFIG, RunFolder, RunResult, TestedImage

CURVES, HISTORY = "curves.json", "history.csv"
Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Image:
    """A test image.

    Attributes:
        name: its path below the folder that all test images share.
        label: 0 normal, 1 anomalous, None unknown.
        score: None where it is NaN or infinite.
        picture: the panel's path below the run's folder; empty where none was drawn.
    """

    name: str
    category: str
    defect: str
    label: int | None
    score: float | None
    picture: str


@dataclass(frozen=True)
class FinishedRun:
    """A complete run.

    Attributes:
        result: what the core reads.
        manifest: versions, times, data.
        images: the test images, in the order of predictions.csv.
        root: the folder that they share.
        history: a row an epoch, name to number.
        curves: category -> ``pixel_roc``, ``pixel_pr``, ``pro`` -> (x, y).
        config_text: config.yaml as it is; empty where it cannot be read.
    """

    result: RunResult
    manifest: dict[str, Any]
    images: list[Image]
    root: str
    history: list[dict[str, float]]
    curves: dict[str, dict[str, Points]]
    config_text: str

    @classmethod
    def read(cls, folder: str | Path, verify: bool = True) -> FinishedRun:
        """Read a run's folder; RunError where the run is not complete, or a file that every run has is damaged."""
        run = RunFolder.open(folder, verify)
        result = run.result()
        images, root = _images(result.predictions)
        return cls(
            result,
            run.manifest(),
            images,
            root,
            _history(run.folder / HISTORY),
            _curves(run.folder / CURVES),
            _text(run.folder / CONFIG),
        )

    @property
    def folder(self) -> Path:
        return self.result.folder

    @property
    def threshold(self) -> float | None:
        return self.result.calibration.threshold

    @cached_property
    def categories(self) -> list[str]:
        """In the order of the test images."""
        return list(dict.fromkeys(image.category for image in self.images))

    def labelled(self, category: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(scores, labels), each (N,): of the images with a label and a finite score, of one category or all."""
        pairs = [
            (image.score, image.label)
            for image in self.images
            if image.score is not None and image.label is not None and category in (None, image.category)
        ]
        scores = np.array([score for score, _ in pairs], dtype=np.float64)
        return scores, np.array([label for _, label in pairs], dtype=np.int64)


def _images(rows: list[TestedImage]) -> tuple[list[Image], str]:
    root = _shared_folder([row.path for row in rows])
    images = [
        Image(
            name=row.path[len(root) :].lstrip("/\\") or row.path,
            category=row.category,
            defect=row.defect,
            label=row.label,
            score=row.score if math.isfinite(row.score) else None,
            picture=row.picture,
        )
        for row in rows
    ]
    return images, root


def _shared_folder(paths: list[str]) -> str:
    """The folder above all of them; empty where there is none."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 - text of another machine's paths
    except ValueError:  # no path, or absolute and relative ones
        return ""


def _history(path: Path) -> list[dict[str, float]]:
    """The epochs; none where the file is missing or no table of numbers, for a report is worth having without it."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [{key: float(value) for key, value in row.items() if key and value not in (None, "")} for row in rows]
    except (OSError, ValueError, TypeError, csv.Error):
        return []


def _curves(path: Path) -> dict[str, dict[str, Points]]:
    """The pixel curves; what is missing or damaged is left out, and the page says that it is not there."""
    try:
        curves = json.loads(path.read_text(encoding="utf-8"))
        return {str(category): _usable(kinds) for category, kinds in curves.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _usable(kinds: dict[str, Any]) -> dict[str, Points]:
    usable = {}
    for kind, points in kinds.items():
        try:
            x, y = (np.asarray(points[axis], dtype=np.float64) for axis in "xy")
        except (KeyError, TypeError, ValueError):
            continue
        if x.ndim == 1 and x.shape == y.shape and x.size > 1 and np.isfinite(x).all() and np.isfinite(y).all():
            usable[str(kind)] = (x, y)
    return usable


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
