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
    planes = np.ascontiguousarray(image[::step, ::step].transpose(2, 0, 1)).astype(np.float32)
    mean_red, mean_green, mean_blue = (_mean(plane) for plane in planes)
    grey = planes[0] + planes[2]
    grey += 2 * planes[1]
    grey *= np.float32(0.25)
    brightness = (mean_red + 2 * mean_green + mean_blue) / 4
    deviation = grey - np.float32(brightness)
    contrast = _mean(deviation * deviation) ** 0.5
    base = max(brightness, 1.0)
    facts = {
        "brightness": brightness,
        "contrast": contrast,
        "red": (mean_red - mean_green) / base,
        "blue": (mean_blue - mean_green) / base,
    }
    weight = np.abs(grey - _median(grey[::2, ::2]))
    rows, columns = weight.shape
    by_column, by_row = weight.sum(axis=0), weight.sum(axis=1)
    total = max(float(by_row.sum()), _TINY)
    facts["centre_x"] = float(by_column @ np.arange(columns, dtype=np.float32)) / total / columns
    facts["centre_y"] = float(by_row @ np.arange(rows, dtype=np.float32)) / total / rows
    # neighbours lie side by side only at full resolution: groups of three whole rows, of which every `skip`-th is taken
    skip = max(3, round(3 * height * width / _PIXELS))
    starts = np.arange(0, height - 2, skip)
    top, lower, last = (image[starts + offset, :, 1].astype(np.float32) for offset in range(3))
    across, down = top[:, 1:] - top[:, :-1], lower - top
    steps = (_mean(np.abs(across)) + _mean(np.abs(down))) / 2
    bends = (_mean(np.abs(across[:, 1:] - across[:, :-1])) + _mean(np.abs(last - lower - down))) / 2
    facts["sharpness"] = steps / max(contrast, 1.0)
    facts["grain"] = bends / max(steps, 0.1)
    down = down[:, :-1]
    energy = float((across * across).sum() + (down * down).sum())
    facts["slant"] = 2 * float((across * down).sum()) / max(energy, 1.0)
    return {name: float(f"{value:.6g}") for name, value in facts.items()}  # short in a state


def _mean(values: NDArray[np.float32]) -> float:
    """Of all values; in half the time that numpy's own takes for so few."""
    return float(np.add.reduce(values, axis=None)) / values.size


def _median(values: NDArray[np.float32]) -> np.float32:
    """Of all values; likewise."""
    middle = values.size // 2
    places = [middle] if values.size % 2 else [middle - 1, middle]
    return np.float32(_mean(np.partition(values, places, axis=None)[places]))


def changes(usual: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """The change of each fact that is worth an alarm, as a share."""
    found = {name: FACTS[name].change(usual[name], now[name]) for name in usual.keys() & now.keys() & FACTS.keys()}
    return {name: found[name] for name in FACTS if name in found and abs(found[name]) >= FACTS[name].least}


def _percent(share: float) -> str:
    value = abs(100 * share)
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
