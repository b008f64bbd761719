"""All figures of a run: drawn, written as PNG files, and what the page says of each."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from anomaly_core import RunError, inside, write_whole
from anomaly_report.figures.curves import draw_pr, draw_pro, draw_roc, image_pr_lines, image_roc_lines, pixel_lines
from anomaly_report.figures.examples import draw_examples
from anomaly_report.figures.history import draw_history
from anomaly_report.figures.scores import draw_scores
from anomaly_report.figures.style import DARK, LIGHT, SCALE, Theme, drawing, to_png
from anomaly_report.finished import FinishedRun
from anomaly_report.runs import brief

FOLDER = "figures"
WRITE_ELSEWHERE = "Free some space, or name another file with --output."
ONE_CLASS = "It needs normal and anomalous test images with labels."
NO_CURVES = "The run's folder holds no such curve: there were no maps, no masks, or no curves.json."
Draw = Callable[[FinishedRun, Theme], Figure | bytes | None]


@dataclass(frozen=True)
class Plan:
    """A figure before it is drawn.

    Attributes:
        name: of its files.
        title, caption: what it is, and how to read it.
        missing: why there may be none.
        draw: None is returned where there is nothing to draw.
        in_dark: whether a dark one is drawn as well; pictures of images need none.
    """

    name: str
    title: str
    caption: str
    missing: str
    draw: Draw
    in_dark: bool = True


@dataclass(frozen=True)
class Drawn:
    """A figure as the page shows it.

    Attributes:
        light, dark: the files below the run's folder; empty where there is none.
        width, height: pixels of the page.
        reason: why it could not be drawn, or empty.
    """

    plan: Plan
    light: str = ""
    dark: str = ""
    width: int = 0
    height: int = 0
    reason: str = ""

    @property
    def missing(self) -> str:
        """Why there is none."""
        return self.reason or self.plan.missing


def _image_roc(run: FinishedRun, theme: Theme) -> Figure | None:
    return draw_roc(lines, theme) if (lines := image_roc_lines(run)) else None


def _image_pr(run: FinishedRun, theme: Theme) -> Figure | None:
    return draw_pr(lines, theme) if (lines := image_pr_lines(run)) else None


def _pixels(kind: str, metric: str, draw: Callable[..., Figure], run: FinishedRun, theme: Theme) -> Figure | None:
    return draw(lines, theme) if (lines := pixel_lines(run, kind, metric)) else None


PLANS = [
    Plan(
        "scores",
        "Scores",
        "How far normal and anomalous images lie apart. The ticks beneath are the normal images that set the threshold, each "
        "scored by a detector that did not see it.",
        "No test image has a score.",
        draw_scores,
    ),
    Plan(
        "roc",
        "ROC of the images",
        "Anomalies found against false alarms as the threshold falls. The nearer to the upper left corner, the better.",
        ONE_CLASS,
        _image_roc,
    ),
    Plan(
        "pr",
        "Precision and recall of the images",
        "How many alarms are true against how many anomalies are found. The nearer to the upper right corner, the better.",
        ONE_CLASS,
        _image_pr,
    ),
    Plan(
        "pixel_roc",
        "ROC of the pixels",
        "The same for the pixels of the anomaly maps against the masks.",
        NO_CURVES,
        partial(_pixels, "pixel_roc", "pixel_auroc", draw_roc),
    ),
    Plan(
        "pixel_pr",
        "Precision and recall of the pixels",
        "How exactly the maps outline the defects; strict, for defects cover few pixels.",
        NO_CURVES,
        partial(_pixels, "pixel_pr", "pixel_ap", draw_pr),
    ),
    Plan(
        "pro",
        "Per-region overlap (PRO)",
        "How much of each defect is covered, small ones counting as much as large ones, as more good pixels are marked.",
        NO_CURVES,
        partial(_pixels, "pro", "aupro", draw_pro),
    ),
    Plan(
        "history",
        "Training",
        "Losses per epoch, on the images that the model was fitted to and on held-out normal ones.",
        "This method is fitted in one pass, without epochs.",
        draw_history,
    ),
    Plan(
        "gallery",
        "Examples as one picture",
        "The most and least anomalous images, false alarms and misses.",
        "No picture was drawn (base.pictures).",
        draw_examples,
        in_dark=False,
    ),
]


def write_figures(run: FinishedRun, files: dict[str, bytes] | None = None) -> list[Drawn]:
    """Draw and write ``figures/*.png`` and ``figures/dark/*.png``; those of an earlier report that no longer apply go.

    Args:
        files: takes the figures by their paths, in place of the run's folder.

    Raises:
        RunError: a file cannot be written.
    """
    if files is None:
        try:
            inside(run.folder, f"{FOLDER}/dark")
        except OSError as error:
            raise RunError(f"cannot write into {str(run.folder / FOLDER)!r}: {error}, or name a file with --output.") from error
    return [_draw(run, plan, files) for plan in PLANS]


def _draw(run: FinishedRun, plan: Plan, files: dict[str, bytes] | None) -> Drawn:
    light, dark = f"{FOLDER}/{plan.name}.png", f"{FOLDER}/dark/{plan.name}.png"
    themes = {light: LIGHT, dark: DARK} if plan.in_dark else {light: LIGHT}
    try:
        drawn = {path: _drawn(run, plan, theme) for path, theme in themes.items()}
        reason = ""
    except (ArithmeticError, ValueError, IndexError) as error:  # numbers that no axis holds
        drawn, reason = dict.fromkeys(themes), f"It cannot be drawn: {brief(error)}."
    for path, content in drawn.items():
        if files is None:
            _put(run.folder / path, content)
        elif content is not None:
            files[path] = content
    first = drawn[light]
    if first is None:
        return Drawn(plan, reason=reason)
    width, height = struct.unpack(">II", first[16:24])  # of the PNG file
    return Drawn(plan, light, dark if plan.in_dark else light, round(width / SCALE), round(height / SCALE))


def _drawn(run: FinishedRun, plan: Plan, theme: Theme) -> bytes | None:
    """The figure as a PNG file; None where there is nothing to draw."""
    with drawing(theme), np.errstate(over="raise"):
        figure = plan.draw(run, theme)
        return to_png(figure) if isinstance(figure, Figure) else figure


def _put(path: Path, content: bytes | None) -> None:
    """Write a figure; remove an earlier report's where there is none."""
    if content is not None:
        write_whole(path, content, WRITE_ELSEWHERE)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot remove {str(path)!r}: {error}. {WRITE_ELSEWHERE}") from error
