"""Cheap facts of an image, which change with the light, the camera and the place of the part, and their words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PIXELS = 10_000  # looked at, of larger images: rows and columns are left out evenly
_TINY = 1e-3


@dataclass(frozen=True)
class Fact:
    """What a fact is called, and which change of it matters.

    Attributes:
        name: the key in :func:`image_facts`.
        more, less: what images are when it rises or falls: ``brighter``; the same word where the direction tells nothing.
        relative: whether a change is a share of the usual value (18 % brighter), or a difference of two shares.
        of: what a difference is a share of: ``of the width``.
        least: the least change that is worth an alarm, as a share: what is smaller may be sure and yet of no interest.
    """

    name: str
    more: str
    less: str
    least: float
    relative: bool = True
    of: str = ""

    def change(self, usual: float, now: float) -> float:
        """The change of a median, as a share."""
        return (now - usual) / max(abs(usual), _TINY) if self.relative else now - usual

    def words(self, usual: float, now: float) -> str:
        """The change in words: ``18 % brighter``."""
        change = self.change(usual, now)
        if self.more == self.less:  # the number tells nobody anything
            return self.more
        return f"{_percent(change)} {f'{self.of} ' if self.of else ''}{self.more if change > 0 else self.less}"


FACTS = {
    fact.name: fact
    for fact in (
        Fact("brightness", "brighter", "darker", 0.03),
        Fact("contrast", "higher in contrast", "lower in contrast", 0.05),
        Fact("sharpness", "sharper", "less sharp", 0.05),
        Fact("grain", "richer in fine grain", "poorer in fine grain", 0.05),
        Fact("red", "redder", "less red", 0.015, relative=False),
        Fact("blue", "bluer", "less blue", 0.015, relative=False),
        Fact("centre_x", "further right", "further left", 0.01, relative=False, of="of the width"),
        Fact("centre_y", "further down", "further up", 0.01, relative=False, of="of the height"),
        Fact("slant", "turned or of another pattern", "turned or of another pattern", 0.02, relative=False),
    )
}


def image_facts(image: NDArray[np.uint8]) -> dict[str, float]:
    """Facts of an image in a detector's geometry; of a large one, from an even share of its rows and columns.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        ``brightness`` (mean grey, 0 to 255), ``contrast`` (its standard deviation), ``sharpness`` (mean step between
        neighbours, as a share of the contrast), ``grain`` (mean change of that step, as a share of it: noise has much, blur and
        compression take it), ``red`` and ``blue`` (against green, as a share of the brightness), ``centre_x`` and ``centre_y``
        (of what differs from the median grey, as a share of width and height) and ``slant`` (the balance of the edges that rise
        and those that fall, -1 to 1: it changes when the pattern turns).
    """
    height, width = image.shape[:2]
    if height < 3 or width < 3:  # nothing has neighbours: two pixels are one object of no shape
        image = np.repeat(np.repeat(image, 3, axis=0), 3, axis=1)
        height, width = image.shape[:2]
    step = max(1, round((height * width / _PIXELS) ** 0.5))
    red, green, blue = (np.ascontiguousarray(image[::step, ::step, channel]).astype(np.float32) for channel in range(3))
    grey = (red + 2 * green + blue) / 4
    brightness, contrast = float(grey.mean()), float(grey.std())
    base = max(brightness, 1.0)
    middle = float(green.mean())
    facts = {
        "brightness": brightness,
        "contrast": contrast,
        "red": (float(red.mean()) - middle) / base,
        "blue": (float(blue.mean()) - middle) / base,
    }
    weight = np.abs(grey - np.float32(np.median(grey[::2, ::2])))
    total = max(float(weight.sum()), _TINY)
    rows, columns = weight.shape
    facts["centre_x"] = float(weight.sum(axis=0) @ np.arange(columns, dtype=np.float32)) / total / columns
    facts["centre_y"] = float(weight.sum(axis=1) @ np.arange(rows, dtype=np.float32)) / total / rows
    # neighbours lie side by side only at full resolution: groups of three whole rows, of which every `skip`-th is taken
    skip = max(3, round(3 * height * width / _PIXELS))
    starts = np.arange(0, height - 2, skip)
    top, lower, last = (image[starts + offset, :, 1].astype(np.float32) for offset in range(3))
    across, down = top[:, 1:] - top[:, :-1], lower - top
    steps = float(np.abs(across).mean() + np.abs(down).mean()) / 2
    bends = float(np.abs(across[:, 1:] - across[:, :-1]).mean() + np.abs(last - lower - down).mean()) / 2
    facts["sharpness"] = steps / max(contrast, 1.0)
    facts["grain"] = bends / max(steps, 0.1)
    down = down[:, :-1]
    energy = float(np.vdot(across, across) + np.vdot(down, down))
    facts["slant"] = 2 * float(np.vdot(across, down)) / max(energy, 1.0)
    return {name: float(f"{value:.6g}") for name, value in facts.items()}  # short in a state


def changes(usual: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """The change of each fact that is worth an alarm, as a share."""
    found = {name: FACTS[name].change(usual[name], now[name]) for name in usual.keys() & now.keys() & FACTS.keys()}
    return {name: found[name] for name in FACTS if name in found and abs(found[name]) >= FACTS[name].least}


def _percent(share: float) -> str:
    value = abs(100 * share)
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
