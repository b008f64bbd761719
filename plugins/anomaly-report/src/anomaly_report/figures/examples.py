"""The examples: most and least anomalous images, false alarms and misses, on the page and as one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomaly_report.choice import HEADED
from anomaly_report.figures.style import Theme, new_figure
from anomaly_report.finished import FinishedRun, Image
from anomaly_report.panels import panel
from anomaly_report.verdicts import FALSE_ALARM, MISS, verdict

NO_PICTURE = "No picture was drawn of this image."
FALSE_ALARMS, MISSES = "False alarms", "Misses"


@dataclass(frozen=True)
class Examples:
    """One group.

    Attributes:
        title: what the images have in common.
        images: the first few, whether or not they have a picture.
        count, pictured: how many belong to the group, and how many of those have a picture.
        empty: said where there is no image.
    """

    title: str
    images: list[Image]
    count: int
    pictured: int
    empty: str

    @property
    def counted(self) -> str:
        """How many images the group has, and how many of them are shown, if not all."""
        shown = f"{len(self.images)} of " if len(self.images) < self.count else ""
        return f"{shown}{self.count:,}"

    @property
    def note(self) -> str:
        """What is missing: of wrong verdicts, which a reader wants to see all of, how many have no picture."""
        wrong = self.title in (FALSE_ALARMS, MISSES)
        if not wrong or self.pictured == self.count:
            return ""
        return f"{self.pictured:,} of {self.count:,} {self.title.lower()} are shown in pictures (base.pictures)."


def examples(run: FinishedRun) -> list[Examples]:
    """The four groups of all test images, each in the order of what is worst."""
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
        _group(FALSE_ALARMS, list(filter(judged(FALSE_ALARM), falling)), none),
        _group(MISSES, list(filter(judged(MISS), rising)), none),
    ]


def draw_examples(run: FinishedRun, theme: Theme) -> Figure | None:
    """The groups as one picture, two by two; None where no image has a picture."""
    groups = examples(run)
    if not any(image.picture for group in groups for image in group.images):
        return None
    figure = new_figure(12.8, 11.2)
    grid = figure.add_gridspec(2, 2, hspace=0.03, wspace=0.03)
    for number, group in enumerate(groups):
        part = figure.add_subfigure(grid[divmod(number, 2)])
        count = f"{group.counted}, {group.pictured:,} have pictures" if group.note else group.counted
        part.suptitle(f"{group.title} ({count})", fontsize=12, fontweight="bold", x=0.01, ha="left")
        for row in range(HEADED):
            axes = part.add_subplot(HEADED, 1, row + 1)
            axes.axis("off")
            if row < len(group.images):
                image = group.images[row]
                axes.set_title(_caption(image), fontsize=9, loc="left")
                _show(axes, run.folder, image.picture)
            elif row == 0:
                axes.text(0, 1, group.empty, va="top", color=theme.muted, transform=axes.transAxes)
    return figure


def _group(title: str, images: list[Image], empty: str) -> Examples:
    return Examples(title, images[:HEADED], len(images), sum(bool(image.picture) for image in images), empty)


def _show(axes: Axes, folder: Path, picture: str) -> None:
    if not picture:
        axes.text(0, 0.5, NO_PICTURE, transform=axes.transAxes)
        return
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
