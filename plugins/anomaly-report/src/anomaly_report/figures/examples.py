"""The examples: most and least anomalous images, false alarms and misses, on the page and as one picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from anomaly_report.choice import HEADED
from anomaly_report.figures.style import LIGHT
from anomaly_report.finished import FinishedRun
from anomaly_report.finished import Image as TestImage
from anomaly_report.panels import panel
from anomaly_report.pictures import COMPRESSION
from anomaly_report.verdicts import FALSE_ALARM, MISS, verdict

NO_PICTURE, UNREADABLE = "No picture was drawn of this image.", "The picture cannot be read."
_WIDE, _HIGH, _MARGIN = 880, 780, 24  # pixels of a group and around it
_TITLE, _CAPTION = 32, 20  # pixels of a line
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
    images: list[TestImage]
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

    def judged(kind: str) -> Callable[[TestImage], bool]:
        return lambda image: verdict(image, run.threshold) == kind

    none = "None." if labelled else "The test images have no labels."
    none = none if run.threshold is not None else "The run has no threshold."
    return [
        _group("Most anomalous", falling, "No image has a score."),
        _group("Least anomalous", rising, "No image has a score."),
        _group(FALSE_ALARMS, list(filter(judged(FALSE_ALARM), falling)), none),
        _group(MISSES, list(filter(judged(MISS), rising)), none),
    ]


def draw_examples(run: FinishedRun) -> bytes | None:
    """The groups as one picture, two by two, a PNG file; None where no image has a picture."""
    groups = examples(run)
    if not any(image.picture for group in groups for image in group.images):
        return None
    canvas = Image.new("RGB", (2 * _WIDE + 3 * _MARGIN, 2 * _HIGH + 3 * _MARGIN), LIGHT["surface"])
    for number, group in enumerate(groups):
        row, column = divmod(number, 2)
        _draw_group(canvas, run.folder, group, _MARGIN + column * (_WIDE + _MARGIN), _MARGIN + row * (_HIGH + _MARGIN))
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def _draw_group(canvas: Image.Image, folder: Path, group: Examples, left: int, top: int) -> None:
    draw, title, text = ImageDraw.Draw(canvas), _font(17), _font(13)
    count = f"{group.counted}, {group.pictured:,} have pictures" if group.note else group.counted
    draw.text((left, top), f"{group.title} ({count})", LIGHT["ink"], title)
    top, height = top + _TITLE, (_HIGH - _TITLE) // HEADED
    if not group.images:
        draw.text((left, top), group.empty, LIGHT["muted"], text)
    for image in group.images:
        draw.text((left, top), _caption(image), LIGHT["ink"], text)
        try:
            picture = panel(folder, image.picture) if image.picture else None
        except OSError:
            picture = None
        if picture is None:
            draw.text((left, top + _CAPTION), UNREADABLE if image.picture else NO_PICTURE, LIGHT["muted"], text)
        else:
            picture.thumbnail((_WIDE, height - _CAPTION - _MARGIN // 2))
            canvas.paste(picture, (left, top + _CAPTION))
        top += height


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own DejaVu Sans, which has more letters than Pillow's font."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _group(title: str, images: list[TestImage], empty: str) -> Examples:
    return Examples(title, images[:HEADED], len(images), sum(bool(image.picture) for image in images), empty)


def _caption(image: TestImage) -> str:
    name = image.name if len(image.name) <= 60 else "…" + image.name[-59:]
    return f"{_score(image):.4g}   {name}"


def _score(image: TestImage) -> float:
    assert image.score is not None
    return image.score
