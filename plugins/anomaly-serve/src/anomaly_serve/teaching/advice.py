"""What can be said of a set before anything is fitted: whether it is large enough, alike, and how small a defect may be."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from anomaly_core import Calibration
from anomaly_serve.teaching.image_set import ImageSet
from anomaly_serve.teaching.members import Member

FEWEST = 3  # normal images: two to learn from, of which each is scored without itself, and one to test on
SHOWS, MEANS = 20, 100  # normal images with which one sees whether it works; from which on the threshold means something
SMALLEST = 3  # pixels of the input that a defect must have: those of 2 were missed, of 4 found (docs/guides/own-images.md)
SIDE = 224  # of the input of the presets ``edge``
STEP = 32  # pixels to whose multiples inputs are rounded: the network's coarsest grid
LARGEST = 1024  # pixels of an input's longer side that are proposed; tiles serve better then
MOST_NAMED = 12


@dataclass(frozen=True)
class Input:
    """A size that images may be resized to, and the smallest defect that it shows, in pixels of the images.

    Attributes:
        size: (height, width); None for the preset's own square.
        cost: times the time of the preset's own.
    """

    size: tuple[int, int] | None
    smallest: int
    cost: float


@dataclass(frozen=True)
class Advice:
    """What is said of a set.

    Attributes:
        count, defects: normal images, and known defects.
        enough: one sentence on the number of normal images; ``blocked``: whether it is too small for any fit.
        size: (height, width) of most images; None of an empty set.
        others: those of another size, at most a dozen of them; ``different``: how many there are.
        inputs: sizes to choose from, the cheapest first; empty for an empty set.
    """

    count: int
    defects: int
    enough: str
    blocked: bool
    size: tuple[int, int] | None
    others: tuple[Member, ...]
    different: int
    inputs: tuple[Input, ...]


def advice(images: ImageSet, rate: float = 0.01) -> Advice:
    """Advice on a set, for a threshold of this false-alarm rate."""
    members = images.members()
    count = sum(member.kind == "normal" for member in members)
    sizes = Counter(member.size for member in members)
    size = sizes.most_common(1)[0][0] if sizes else None
    others = [member for member in members if member.size != size]
    return Advice(
        count,
        len(members) - count,
        enough(count, rate),
        count < FEWEST,
        size,
        tuple(others[:MOST_NAMED]),
        len(others),
        inputs(size) if size else (),
    )


def enough(count: int, rate: float = 0.01) -> str:
    """What so many normal images can support, in a sentence."""
    if count < FEWEST:
        return f"{count} normal images are too few: a version needs {FEWEST} at least, better {MEANS}."
    needed = Calibration.images_for(rate)
    per_thousand = 1000 * max(rate, 1 / (count + 1))
    supports = f"{count} normal images support a threshold of about {per_thousand:.2g} false alarms in 1,000 normal images"
    if count >= needed:
        return f"{supports}, as asked for."
    shows = " With fewer than 20 it is hard to say whether it works at all." if count < SHOWS else ""
    return f"{supports}; the {1000 * rate:.2g} that are asked for take {needed}.{shows}"


def inputs(size: tuple[int, int]) -> tuple[Input, ...]:
    """Sizes of the input for images of this (height, width): the preset's square, and larger ones of the images' own shape."""
    height, width = size
    found = [Input(None, _smallest(max(size) / SIDE), 1.0)]
    for pixels in (SIDE, 320, 448, 640, 896, LARGEST):
        shrunk = max(size) / pixels
        if shrunk < 1:  # enlarged images show no more
            break
        own = (_rounded(height / shrunk), _rounded(width / shrunk))
        times = max(height / own[0], width / own[1])
        one = Input(own, _smallest(times), own[0] * own[1] / SIDE**2)
        if one.smallest < found[-1].smallest:
            found.append(one)
    return tuple(found)


def input_for(size: tuple[int, int], defect: float) -> Input | None:
    """The cheapest input that shows defects of so many pixels; None if none of :func:`inputs` does."""
    return next((one for one in inputs(size) if one.smallest <= defect), None)


def _smallest(times: float) -> int:
    return max(1, math.ceil(round(SMALLEST * times, 6)))


def _rounded(side: float) -> int:
    return max(STEP, round(side / STEP) * STEP)
