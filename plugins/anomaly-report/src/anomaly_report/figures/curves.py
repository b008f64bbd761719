"""ROC, precision-recall and per-region-overlap curves, a line a category."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anomaly_core import AnomalyError
from anomaly_metrics import auroc, average_precision, precision_recall_curve, roc_curve
from anomaly_report.figures.style import Theme, legend, name_label, new_figure
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


def draw_roc(lines: list[Line], theme: Theme, area: str = "AUROC") -> Figure:
    """True-positive over false-positive rate, with the line of guessing."""
    figure = _draw(lines, theme, area, "false-positive rate", "true-positive rate")
    figure.axes[0].plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    return figure


def draw_pr(lines: list[Line], theme: Theme, area: str = "AP") -> Figure:
    """Precision over recall, by steps: between two thresholds nothing is interpolated."""
    return _draw(lines, theme, area, "recall", "precision", steps=True)


def draw_pro(lines: list[Line], theme: Theme, limit: float = 0.3) -> Figure:
    """Per-region overlap over the pixels' false-positive rate, as far as AUPRO integrates."""
    cut = [_up_to(line, limit) for line in lines]
    figure = _draw(cut, theme, f"AUPRO to {limit:g}", "pixel false-positive rate", "mean overlap of regions")
    figure.axes[0].set_xlim(-0.02 * limit, 1.02 * limit)
    return figure


def _up_to(line: Line, limit: float) -> Line:
    """The line as far as it is shown: lines are not clipped, and what went on would be drawn over the rest of the figure."""
    inside = line.x <= limit
    x, y = np.append(line.x[inside], limit), np.append(line.y[inside], np.interp(limit, line.x, line.y))
    return replace(line, x=x, y=y)


def _draw(lines: list[Line], theme: Theme, area: str, x: str, y: str, *, steps: bool = False) -> Figure:
    figure = new_figure()
    axes = figure.add_subplot()
    named = _named(lines)
    for line in lines:
        if line.name not in named:
            axes.plot(line.x, line.y, color=theme.grid, linewidth=1.2, zorder=2, drawstyle="steps-pre" if steps else "default")
    for number, name in enumerate(named):
        line = next(found for found in lines if found.name == name)
        colour = theme.series[number % len(theme.series)]
        label = name_label(name) + ("" if line.area is None else f"   {area} {line.area:.3f}")
        axes.plot(
            line.x, line.y, color=colour, label=label, zorder=3, clip_on=False, drawstyle="steps-pre" if steps else "default"
        )
        if line.point is not None:
            axes.plot(
                *line.point, marker="D", markersize=7, color=colour, markeredgecolor=theme.surface, zorder=5, clip_on=False
            )
    if any(line.point is not None for line in lines):
        axes.plot([], [], linestyle="", marker="D", color=theme.muted, label="the run's threshold")
    if len(named) < len(lines):
        axes.plot([], [], color=theme.grid, label=f"{len(lines) - len(named)} categories between")
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    legend(axes, theme, below=True)
    return figure


def _named(lines: list[Line]) -> list[str]:
    """All names; of too many the three best and the three worst."""
    if len(lines) <= NAMED:
        return [line.name for line in lines]
    ranked = sorted(lines, key=lambda line: -1.0 if line.area is None else line.area)
    return [line.name for line in [*ranked[:-4:-1], *ranked[2::-1]]]
