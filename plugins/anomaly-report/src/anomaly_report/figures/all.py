"""All figures of a run: drawn, written as PNG files, and what the page says of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from anomaly_core import RunFolder
from anomaly_report.figures.curves import draw_pr, draw_pro, draw_roc, image_pr_lines, image_roc_lines, pixel_lines
from anomaly_report.figures.examples import draw_examples
from anomaly_report.figures.history import draw_history
from anomaly_report.figures.scores import draw_scores
from anomaly_report.figures.style import DARK, LIGHT, Theme, drawing, to_png
from anomaly_report.finished import FinishedRun

FOLDER = "figures"
ONE_CLASS = "It needs normal and anomalous test images with labels."
NO_CURVES = "The run's folder holds no such curve: there were no maps, no masks, or no curves.json."
Draw = Callable[[FinishedRun, Theme], Figure | None]


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
    """

    plan: Plan
    light: str = ""
    dark: str = ""
    width: int = 0
    height: int = 0


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
        "How far normal and anomalous images lie apart. The threshold comes from the held-out images, the ticks beneath.",
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


def write_figures(run: FinishedRun) -> list[Drawn]:
    """Draw and write ``figures/*.png`` and ``figures/dark/*.png``; those of an earlier report that no longer apply go.

    Raises:
        RunError: a file cannot be written.
    """
    return [_write(run, plan) for plan in PLANS]


def _write(run: FinishedRun, plan: Plan) -> Drawn:
    light, dark = f"{FOLDER}/{plan.name}.png", f"{FOLDER}/dark/{plan.name}.png"
    size = _draw_to(run, plan, LIGHT, light)
    if plan.in_dark:
        _draw_to(run, plan, DARK, dark)
    return Drawn(plan) if size is None else Drawn(plan, light, dark if plan.in_dark else light, *size)


def _draw_to(run: FinishedRun, plan: Plan, theme: Theme, path: str) -> tuple[int, int] | None:
    """The figure's width and height; None where there is none, and then the file neither."""
    with drawing(theme):
        figure = plan.draw(run, theme)
        if figure is None:
            (run.folder / path).unlink(missing_ok=True)
            return None
        RunFolder(run.folder).write(path, to_png(figure))
        width, height = figure.canvas.get_width_height()
        return int(width), int(height)
