"""All figures of a run: what the page says of each, and their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from markupsafe import Markup

from anomaly_core import RunError, inside, write_whole
from anomaly_report.figures.chart import Chart
from anomaly_report.figures.curves import chart_of_pr, chart_of_pro, chart_of_roc, image_pr_lines, image_roc_lines, pixel_lines
from anomaly_report.figures.history import chart_of_history
from anomaly_report.figures.scores import chart_of_scores
from anomaly_report.figures.svg import svg
from anomaly_report.finished import FinishedRun
from anomaly_report.runs import brief

FOLDER = "figures"
EXAMPLES = "examples.png"
WRITE_ELSEWHERE = "Free some space, or name another file with --output."
ONE_CLASS = "It needs normal and anomalous test images with labels."
NO_CURVES = "The run's folder holds no such curve: there were no maps, no masks, or no curves.json."


@dataclass(frozen=True)
class Plan:
    """A figure before it is drawn.

    Attributes:
        name: of its file.
        title, caption: what it is, and how to read it.
        missing: why there may be none.
        chart: what it shows; None where there is nothing to show.
    """

    name: str
    title: str
    caption: str
    missing: str
    chart: Callable[[FinishedRun], Chart | None]


@dataclass(frozen=True)
class Drawn:
    """A figure as the page shows it, and why there is none where ``drawn`` is empty."""

    plan: Plan
    chart: Chart | None
    drawn: Markup
    missing: str


def _image_roc(run: FinishedRun) -> Chart | None:
    return chart_of_roc(lines) if (lines := image_roc_lines(run)) else None


def _image_pr(run: FinishedRun) -> Chart | None:
    return chart_of_pr(lines) if (lines := image_pr_lines(run)) else None


def _pixels(kind: str, metric: str, chart: Callable[..., Chart], run: FinishedRun) -> Chart | None:
    return chart(lines) if (lines := pixel_lines(run, kind, metric)) else None


PLANS = [
    Plan(
        "scores",
        "Scores",
        "How far normal and anomalous images lie apart. The ticks beneath are the normal images that set the threshold, each "
        "scored by a detector that did not see it.",
        "No test image has a score.",
        chart_of_scores,
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
        partial(_pixels, "pixel_roc", "pixel_auroc", chart_of_roc),
    ),
    Plan(
        "pixel_pr",
        "Precision and recall of the pixels",
        "How exactly the maps outline the defects; strict, for defects cover few pixels.",
        NO_CURVES,
        partial(_pixels, "pixel_pr", "pixel_ap", chart_of_pr),
    ),
    Plan(
        "pro",
        "Per-region overlap (PRO)",
        "How much of each defect is covered, small ones counting as much as large ones, as more good pixels are marked.",
        NO_CURVES,
        partial(_pixels, "pro", "aupro", chart_of_pro),
    ),
    Plan(
        "history",
        "Training",
        "Losses per epoch, on the images that the model was fitted to and on held-out normal ones.",
        "This method is fitted in one pass, without epochs.",
        chart_of_history,
    ),
]


def drawn(run: FinishedRun) -> list[Drawn]:
    """All figures, those that cannot be drawn among them."""
    return [_drawn(run, plan) for plan in PLANS]


def _drawn(run: FinishedRun, plan: Plan) -> Drawn:
    try:
        with np.errstate(over="raise"):
            chart = plan.chart(run)
            return Drawn(plan, chart, Markup("") if chart is None else svg(chart, plan.title), plan.missing)
    except (ArithmeticError, ValueError, IndexError) as error:  # numbers that no axis holds
        return Drawn(plan, None, Markup(""), f"It cannot be drawn: {brief(error)}.")


def write_figures(run: FinishedRun, folder: Path, kind: str) -> list[Path]:
    """Write each figure into ``folder / "figures"``, and the examples as one picture; files of an earlier report that no longer
    apply go.

    Args:
        kind: ``png``, ``pdf`` or ``svg``; the examples are photographs, always a PNG file.

    Returns:
        the files.

    Raises:
        RunError: a file cannot be written.
    """
    from anomaly_report.figures.examples import draw_examples
    from anomaly_report.figures.paper import file_of

    contents = {f"{one.plan.name}.{kind}": None if one.chart is None else file_of(one.chart, kind) for one in drawn(run)}
    written = []
    for name, content in {**contents, EXAMPLES: draw_examples(run)}.items():
        try:
            path = inside(folder, f"{FOLDER}/{name}")
            if content is None:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {str(folder / FOLDER / name)!r}: {error}. {WRITE_ELSEWHERE}") from error
        if content is not None:
            write_whole(path, content, WRITE_ELSEWHERE)
            written.append(path)
    return written
