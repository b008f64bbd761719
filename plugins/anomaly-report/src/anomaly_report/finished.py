"""FinishedRun: what a complete run's folder holds, read and checked once for figures and page."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import CONFIG, RunError, RunFolder, RunResult, TestedImage
from anomaly_report.panels import panel_size
from anomaly_report.runs import brief

CURVES, HISTORY = "curves.json", "history.csv"
SHOWN = 20  # regions of an image on the page; as many as its picture numbers
Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Image:
    """A test image.

    Attributes:
        name: its path below the folder that all test images share.
        label: 0 normal, 1 anomalous, None unknown.
        score: None where it is NaN or infinite.
        picture: the panel's path below the run's folder; empty where none was drawn.
        regions: box, area, peak and p-value of each region, the highest peak first; None where they were not listed.
    """

    name: str
    category: str
    defect: str
    label: int | None
    score: float | None
    picture: str
    regions: list[dict[str, Any]] | None = None


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
        config_text: config.yaml as it is; empty where it cannot be used.
        sizes: width and height of each picture: the page keeps its place before it is loaded.
        notes: what is left out of the report because it is missing or damaged, in words.
    """

    result: RunResult
    manifest: dict[str, Any]
    images: list[Image]
    root: str
    history: list[dict[str, float]]
    curves: dict[str, dict[str, Points]]
    config_text: str
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: str | Path, verify: bool = True) -> FinishedRun:
        """Read a run's folder; RunError where the run is not complete, or a file that every run has is damaged."""
        run = RunFolder.open(folder, verify)
        result, manifest = run.result(), run.manifest()
        images, root = _images(result.predictions)
        sizes, refused = _sizes(run.folder, images)
        notes: list[str] = []
        history = [] if "evaluates" in manifest else _history(run, notes)
        read = cls(result, manifest, images, root, history, _curves(run, notes), _config(run, notes), sizes, notes)
        return without(read, refused)

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
            regions=row.regions,
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


def without(run: FinishedRun, refused: dict[str, str]) -> FinishedRun:
    """The run without some pictures, which a note tells.

    Args:
        refused: a picture's path -> why it must not be shown.
    """
    if not refused:
        return run
    name, reason = next(iter(refused.items()))
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    note = f"Pictures are left out: {brief(repr(name))}{more}: {brief(reason)}."
    images = [replace(image, picture="") if image.picture in refused else image for image in run.images]
    return replace(run, images=images, notes=[*run.notes, note])


def _sizes(folder: Path, images: list[Image]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Width and height of each picture, and why the others must not be shown."""
    sizes: dict[str, tuple[int, int]] = {}
    refused: dict[str, str] = {}
    for name in dict.fromkeys(image.picture for image in images if image.picture):
        try:
            sizes[name] = panel_size(folder, name)
        except OSError as error:
            refused[name] = str(error)
    return sizes, refused


def _history(run: RunFolder, notes: list[str]) -> list[dict[str, float]]:
    """The epochs; none where the file is missing or no table of numbers, for a report is worth having without it."""
    try:
        rows = run.read_rows(HISTORY)
        return [{key: float(value) for key, value in row.items() if key and value} for row in rows]
    except (RunError, ValueError) as error:
        notes.append(_left_out(HISTORY, error))
        return []


def _curves(run: RunFolder, notes: list[str]) -> dict[str, dict[str, Points]]:
    """The pixel curves; what is missing or damaged is left out, and a note says so."""
    try:
        curves = run.read_json(CURVES)
    except RunError as error:
        notes.append(_left_out(CURVES, error))
        return {}
    usable: dict[str, dict[str, Points]] = {}
    damaged = []
    for category, kinds in curves.items():
        usable[category] = {}
        for kind, points in kinds.items() if isinstance(kinds, dict) else [("", None)]:
            try:
                usable[category][kind] = _points(points)
            except (KeyError, TypeError, ValueError, OverflowError):
                damaged.append(f"{category} {kind}".strip())
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        notes.append(_left_out(CURVES, ValueError(f"{brief(damaged[0])}{more}: no lists of finite numbers")))
    return usable


def _points(points: Any) -> Points:
    """The curve, two points or more; ValueError or another if it is none."""
    x, y = (np.asarray(points[axis], dtype=np.float64) for axis in "xy")
    if not (x.ndim == 1 and x.shape == y.shape and x.size > 1 and np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError
    return x, y


def _config(run: RunFolder, notes: list[str]) -> str:
    try:
        return run.read(CONFIG).decode("utf-8", "replace")
    except RunError as error:
        notes.append(_left_out(CONFIG, error))
        return ""


def _left_out(name: str, error: Exception) -> str:
    return f"{name} is left out: {brief(error)}"
