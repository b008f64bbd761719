"""The training history: each loss per epoch, fitted and held-out side by side, and the epoch that was kept."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anomaly_report.figures.style import Theme, name_label, new_figure
from anomaly_report.finished import FinishedRun

PANELS = 6
PARTS = {"train_": "fitted images", "val_": "held-out images"}


def draw_history(run: FinishedRun, theme: Theme) -> Figure | None:
    """A panel a loss; None where nothing was trained by epochs."""
    rows = [row for row in run.history if "epoch" in row]
    losses = list(dict.fromkeys(key[len(part) :] for row in rows for key in row for part in PARTS if key.startswith(part)))[
        :PANELS
    ]
    if not losses:
        return None
    kept = run.result.figures.get("kept_epoch")
    columns = min(len(losses), 2)
    lines = math.ceil(len(losses) / columns)
    figure = new_figure(5.4 if columns == 1 else 9.6, 3.9 if lines == 1 else 2.8 * lines + 0.5)
    for number, loss in enumerate(losses):
        axes = figure.add_subplot(lines, columns, number + 1)
        lowest, highest = math.inf, -math.inf
        for part, (prefix, words) in enumerate(PARTS.items()):
            points = [(row["epoch"], row[prefix + loss]) for row in rows if math.isfinite(row.get(prefix + loss, math.nan))]
            if points:
                epochs, values = zip(*points, strict=True)
                lowest, highest = min(lowest, *values), max(highest, *values)
                marker = "o" if len(points) < 25 else ""
                axes.plot(epochs, values, color=theme.series[part], label=words, marker=marker, markersize=4)
        # Losses that fall by decades are flat lines on a linear axis.
        if 0 < lowest < highest / 50:
            axes.set_yscale("log")
        if kept is not None:
            axes.axvline(kept, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 3)), label=f"kept: epoch {kept:g}")
        axes.set(xlabel="epoch", ylabel=name_label(loss.replace("_", " ")))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, labelcolor=theme.ink)
    return figure
