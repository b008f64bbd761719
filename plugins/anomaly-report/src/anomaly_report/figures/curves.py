"""ROC, precision-recall and per-region-overlap curves, a line a category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anomaly_core import AnomalyError
from anomaly_metrics import auroc, average_precision, precision_recall_curve, roc_curve
from anomaly_report.figures.chart import Axis, Chart, Curve, Diamond, Panel, Shape
from anomaly_report.figures.style import series
from anomaly_report.finished import FinishedRun

# More lines than this cannot be told apart: then the best and the worst are named, and the others are drawn pale.
NAMED = 8


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        area: what is written beside its name, and orders the lines; None where it is not known.
        point: where the run's own threshold lies on it.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: float | None
    point: tuple[float, float] | None = None


def image_roc_lines(run: FinishedRun) -> list[Line]:
    """A line for each category that has normal and anomalous images."""
    lines = []
    for category in run.categories:
        scores, labels = run.labelled(category)
        try:
            fpr, tpr, _ = roc_curve(scores, labels)
        except AnomalyError:  # one class alone: UndefinedMetric
            continue
        point = None
        if run.threshold is not None:
            called = scores > run.threshold
            point = (float(called[labels == 0].mean()), float(called[labels == 1].mean()))
        lines.append(Line(category, fpr, tpr, auroc(scores, labels), point))
    return lines


def image_pr_lines(run: FinishedRun) -> list[Line]:
    """A line for each category that has normal and anomalous images."""
    lines = []
    for category in run.categories:
        scores, labels = run.labelled(category)
        try:
            precision, recall, _ = precision_recall_curve(scores, labels)
        except AnomalyError:  # one class alone: UndefinedMetric
            continue
        point = None
        if run.threshold is not None and (called := scores > run.threshold).any():
            point = (float(called[labels == 1].mean()), float((labels[called] == 1).mean()))
        lines.append(Line(category, recall[::-1], precision[::-1], average_precision(scores, labels), point))
    return lines


def pixel_lines(run: FinishedRun, kind: str, metric: str) -> list[Line]:
    """The lines of curves.json of one kind; ``metric`` is the one whose value stands beside each."""
    measure = run.result.measures.get(metric)

    def area(category: str) -> float | None:
        if measure is None:
            return None
        return measure.categories.get(category) if measure.categories else measure.value

    return [Line(category, *kinds[kind], area(category)) for category, kinds in run.curves.items() if kind in kinds]


def chart_of_roc(lines: list[Line], area: str = "AUROC") -> Chart:
    """True-positive over false-positive rate, with the line of guessing."""
    ends = np.array([0.0, 1.0])
    guessing = Curve(ends, ends, "muted", width=1, dash=(4, 4))
    return _chart(lines, area, "false-positive rate", "true-positive rate", behind=[guessing])


def chart_of_pr(lines: list[Line], area: str = "AP") -> Chart:
    """Precision over recall, by steps: between two thresholds nothing is interpolated."""
    return _chart(lines, area, "recall", "precision", steps=True)


def chart_of_pro(lines: list[Line], limit: float = 0.3) -> Chart:
    """Per-region overlap over the pixels' false-positive rate, as far as AUPRO integrates."""
    cut = [_up_to(line, limit) for line in lines]
    return _chart(cut, f"AUPRO to {limit:g}", "pixel false-positive rate", "mean overlap of regions", right=limit)


def _up_to(line: Line, limit: float) -> Line:
    """The line as far as it is shown."""
    inside = line.x <= limit
    x, y = np.append(line.x[inside], limit), np.append(line.y[inside], np.interp(limit, line.x, line.y))
    return replace(line, x=x, y=y)


def _chart(
    lines: list[Line],
    area: str,
    x: str,
    y: str,
    *,
    right: float = 1.0,
    steps: bool = False,
    behind: Sequence[Shape] = (),
) -> Chart:
    named = _named(lines)
    shapes = [*behind, *(Curve(one.x, one.y, "pale", width=1.2, steps=steps) for one in lines if one.name not in named)]
    points: list[Shape] = []
    for number, name in enumerate(named):
        line = next(found for found in lines if found.name == name)
        label = name if line.area is None else f"{name}, {area} {line.area:.3f}"
        shapes.append(Curve(line.x, line.y, series(number), label, steps=steps))
        if line.point is not None:
            points.append(Diamond(line.point, series(number)))
    legend: list[Shape] = []
    if any(line.point is not None for line in lines):
        legend.append(Diamond(None, "muted", "the run's threshold"))
    if len(named) < len(lines):
        legend.append(Curve(np.empty(0), np.empty(0), "pale", f"{len(lines) - len(named)} categories between"))
    axes = Axis(x, -0.02 * right, 1.02 * right), Axis(y, -0.02, 1.02)
    return Chart([Panel(*axes, [*shapes, *points])], legend)


def _named(lines: list[Line]) -> list[str]:
    """All names; of too many the three best and the three worst."""
    if len(lines) <= NAMED:
        return [line.name for line in lines]
    ranked = sorted(lines, key=lambda line: -1.0 if line.area is None else line.area)
    return [line.name for line in [*ranked[:-4:-1], *ranked[2::-1]]]
