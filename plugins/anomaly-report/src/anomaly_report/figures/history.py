"""The training history: each loss per epoch, fitted and held-out side by side, and the epoch that was kept."""

from __future__ import annotations

import math

import numpy as np

from anomaly_report.figures.chart import Axis, Chart, Curve, Panel, Rule, Shape
from anomaly_report.figures.style import series
from anomaly_report.finished import FinishedRun

PANELS = 6
PARTS = {"train_": "fitted images", "val_": "held-out images"}
_DOTS = 25  # epochs, up to which each is marked


def chart_of_history(run: FinishedRun) -> Chart | None:
    """A panel a loss; None where nothing was trained by epochs."""
    rows = [row for row in run.history if "epoch" in row]
    losses = dict.fromkeys(key[len(part) :] for row in rows for key in row for part in PARTS if key.startswith(part))
    panels = [_panel(rows, loss, run.result.figures.get("kept_epoch")) for loss in list(losses)[:PANELS]]
    drawn = [panel for panel in panels if panel is not None]
    return Chart(drawn) if drawn else None


def _panel(rows: list[dict[str, float]], loss: str, kept: float | None) -> Panel | None:
    """None where no epoch has a finite loss."""
    curves = []
    for part, (prefix, words) in enumerate(PARTS.items()):
        points = [(row["epoch"], row[prefix + loss]) for row in rows if math.isfinite(row.get(prefix + loss, math.nan))]
        if points:
            epochs, values = np.array(points).T
            curves.append(Curve(epochs, values, series(part), words, dots=len(points) < _DOTS))
    if not curves:
        return None
    values = np.concatenate([curve.y for curve in curves])
    shapes: list[Shape] = [*curves]
    epochs = np.concatenate([curve.x for curve in curves])
    if kept is not None:
        shapes.append(Rule(kept, "ink", f"kept: epoch {kept:g}", 1.2, (4, 3)))
        epochs = np.append(epochs, kept)
    # Losses that fall by decades are flat lines on a linear axis.
    y = Axis.around(loss.replace("_", " "), values, log=bool(0 < values.min() < values.max() / 50))
    return Panel(Axis.around("epoch", epochs, whole=True), y, shapes)
