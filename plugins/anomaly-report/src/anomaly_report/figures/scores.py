"""The histogram of scores: of test images, of the normal images that set the threshold, and the threshold."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anomaly_report.figures.style import Theme, legend, new_figure
from anomaly_report.finished import FinishedRun
from anomaly_report.thresholds import kind_of_normals
from anomaly_report.verdicts import Oracle, Scale

BINS = 48


def draw_scores(run: FinishedRun, theme: Theme) -> Figure | None:
    """Test images as bars, those that set the threshold as ticks beneath; None where no image has a score."""
    kinds = {
        "normal": ([image.score for image in run.images if image.label == 0 and image.score is not None], theme.normal),
        "anomalous": ([image.score for image in run.images if image.label == 1 and image.score is not None], theme.anomalous),
        "no label": ([image.score for image in run.images if image.label is None and image.score is not None], theme.series[2]),
    }
    if not any(scores for scores, _ in kinds.values()):
        return None
    scale = Scale.of(run)
    edges = (np.geomspace if scale.log else np.linspace)(scale.low, scale.high, BINS + 1)
    figure = new_figure()
    axes = figure.add_subplot()
    for name, (scores, colour) in kinds.items():
        if scores:
            axes.hist(scores, bins=list(edges), color=colour, alpha=0.55, label=f"{name} ({len(scores)})")
            axes.hist(scores, bins=list(edges), histtype="step", color=colour, linewidth=1.5)
    unseen = [score for score in run.result.calibration.scores if np.isfinite(score)]
    if unseen:
        # Beneath zero, out of the bars' way.
        axes.plot(
            unseen,
            np.full(len(unseen), -0.045),
            transform=axes.get_xaxis_transform(),
            linestyle="",
            marker="|",
            markersize=9,
            markeredgewidth=1.4,
            color=theme.held_out,
            clip_on=False,
            label=f"{kind_of_normals(run.result.calibration)} ({len(unseen)}), beneath",
        )
        axes.tick_params(axis="x", pad=11)
    if run.threshold is not None:
        axes.axvline(run.threshold, color=theme.ink, linewidth=1.8, label=f"threshold {run.threshold:.4g}")
    oracle = Oracle.of(run)
    if oracle is not None:
        label = "oracle: best F1 of the test set"
        axes.axvline(oracle.threshold, color=theme.muted, linewidth=1.4, linestyle=(0, (1, 2)), label=label)
    axes.set(xlabel="score" + (" (logarithmic)" if scale.log else ""), ylabel="test images", xlim=(scale.low, scale.high))
    if scale.log:
        axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    legend(axes, theme, below=True)
    return figure
