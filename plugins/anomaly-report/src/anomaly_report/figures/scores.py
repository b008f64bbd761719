"""The histogram of scores: of test images, of the normal images that set the threshold, and the threshold."""

from __future__ import annotations

import numpy as np

from anomaly_report.figures.chart import Axis, Bars, Chart, Panel, Rule, Shape, Ticks
from anomaly_report.finished import FinishedRun
from anomaly_report.thresholds import kind_of_normals
from anomaly_report.verdicts import Oracle, Scale

BINS = 48


def chart_of_scores(run: FinishedRun) -> Chart | None:
    """Test images as bars, those that set the threshold as ticks beneath; None where no image has a score."""
    kinds = {"normal": (0, "normal"), "anomalous": (1, "anomalous"), "no label": (None, "series-2")}
    scale = Scale.of(run)
    edges = (np.geomspace if scale.log else np.linspace)(scale.low, scale.high, BINS + 1)
    bars = []
    for name, (label, colour) in kinds.items():
        scores = [image.score for image in run.images if image.label == label and image.score is not None]
        if scores:
            bars.append(Bars(edges, np.histogram(scores, edges)[0], colour, f"{name} ({len(scores)})"))
    if not bars:
        return None
    shapes: list[Shape] = [*bars]
    unseen = np.array([score for score in run.result.calibration.scores if np.isfinite(score)])
    if unseen.size:
        shapes.append(Ticks(unseen, "muted", f"{kind_of_normals(run.result.calibration)} ({len(unseen)}), beneath"))
    oracle = Oracle.of(run)
    if run.threshold is not None:
        shapes.append(Rule(run.threshold, "ink", f"threshold {run.threshold:.4g}"))
    if oracle is not None:
        shapes.append(Rule(oracle.threshold, "muted", "oracle: best F1 of the test set", 1.4, (1.5, 3)))
    x = Axis("score" + (" (logarithmic)" if scale.log else ""), scale.low, scale.high, scale.log)
    y = Axis("test images", 0.0, 1.05 * max(1, *(bar.counts.max() for bar in bars)), whole=True)
    return Chart([Panel(x, y, shapes, columns=True)])
