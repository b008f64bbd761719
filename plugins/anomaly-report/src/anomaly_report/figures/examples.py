"""The examples: most and least anomalous images, false alarms and misses, on the page and as one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomaly_report.figures.style import Theme, new_figure
from anomaly_report.finished import FinishedRun, Image
from anomaly_report.panels import panel
from anomaly_report.verdicts import FALSE_ALARM, MISS, verdict

SHOWN = 3


@dataclass(frozen=True)
class Examples:
    """One group.

    Attributes:
        title: what the images have in common.
        images: the first few that have a picture.
        count: how many belong to the group, with or without a picture.
        empty: said where there is no image to show.
    """

    title: str
    images: list[Image]
    count: int
    empty: str


def examples(run: FinishedRun) -> list[Examples]:
    """The four groups, each in the order of what is worst."""
    scored = [image for image in run.images if image.score is not None]
    rising = sorted(scored, key=_score)
    falling = rising[::-1]
    labelled = any(image.label is not None for image in scored)

    def judged(kind: str) -> Callable[[Image], bool]:
        return lambda image: verdict(image, run.threshold) == kind

    none = "None." if labelled else "The test images have no labels."
    none = none if run.threshold is not None else "The run has no threshold."
    return [
        _group("Most anomalous", falling, "No image has a score."),
        _group("Least anomalous", rising, "No image has a score."),
        _group("False alarms", list(filter(judged(FALSE_ALARM), falling)), none),
        _group("Misses", list(filter(judged(MISS), rising)), none),
    ]


def draw_examples(run: FinishedRun, theme: Theme) -> Figure | None:
    """The groups as one picture, two by two; None where no image has a picture."""
    groups = examples(run)
    if not any(group.images for group in groups):
        return None
    figure = new_figure(12.8, 11.2)
    grid = figure.add_gridspec(2, 2, hspace=0.03, wspace=0.03)
    for number, group in enumerate(groups):
        part = figure.add_subfigure(grid[divmod(number, 2)])
        part.suptitle(f"{group.title} ({group.count})", fontsize=12, fontweight="bold", x=0.01, ha="left")
        for row in range(SHOWN):
            axes = part.add_subplot(SHOWN, 1, row + 1)
            axes.axis("off")
            if row < len(group.images):
                image = group.images[row]
                axes.set_title(_caption(image), fontsize=9, loc="left")
                _show(axes, run.folder, image.picture)
            elif row == 0:
                axes.text(0, 1, group.empty, va="top", color=theme.muted, transform=axes.transAxes)
    return figure


def _group(title: str, images: list[Image], empty: str) -> Examples:
    pictured = [image for image in images if image.picture]
    if images and not pictured:
        empty = "No picture was drawn of them (base.pictures says how many are)."
    return Examples(title, pictured[:SHOWN], len(images), empty)


def _show(axes: Axes, folder: Path, picture: str) -> None:
    try:
        axes.imshow(np.asarray(panel(folder, picture)))
    except OSError:
        axes.text(0, 0.5, "the picture cannot be read", transform=axes.transAxes)


def _caption(image: Image) -> str:
    name = image.name if len(image.name) <= 60 else "…" + image.name[-59:]
    return f"{_score(image):.4g}   {name}"


def _score(image: Image) -> float:
    assert image.score is not None
    return image.score
