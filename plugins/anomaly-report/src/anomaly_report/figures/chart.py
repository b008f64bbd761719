"""Chart: what a figure shows, whoever draws it: the page's own SVG (:mod:`.svg`), or matplotlib for a paper (:mod:`.paper`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Dash = tuple[float, float]  # pixels drawn, pixels left out


@dataclass(frozen=True)
class Axis:
    """An axis and its ends; ``whole`` has marks at whole numbers alone. ValueError if no axis can have these ends."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.high - self.low) and self.low < self.high):
            raise ValueError(f"no axis reaches from {self.low:.3g} to {self.high:.3g}")

    @classmethod
    def around(cls, label: str, values: Floats, *, log: bool = False, whole: bool = False) -> Axis:
        """With a margin on both sides of the values, which are above 0 where it is logarithmic."""
        low, high = float(values.min()), float(values.max())
        if log:
            factor = (high / low) ** 0.05
            return cls(label, low / factor, high * factor, log, whole)
        margin = 0.05 * (high - low) or abs(low) * 0.05 or 1.0
        return cls(label, low - margin, high + margin, log, whole)


@dataclass(frozen=True)
class Curve:
    """A line; ``steps`` goes up or down at its earlier end, ``dots`` marks each point.

    What has a label, here and below, stands in the legend; in a legend alone, ``x`` and ``y`` are empty.
    """

    x: Floats
    y: Floats
    colour: str
    label: str = ""
    width: float = 2.0
    dash: Dash | None = None
    steps: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Bars:
    """A histogram: ``edges`` (N + 1,), ``counts`` (N,)."""

    edges: Floats
    counts: NDArray[np.int64]
    colour: str
    label: str


@dataclass(frozen=True)
class Ticks:
    """Values as short strokes beneath the axis, out of the way of what stands on it."""

    at: Floats
    colour: str
    label: str


@dataclass(frozen=True)
class Rule:
    """A vertical line."""

    at: float
    colour: str
    label: str
    width: float = 1.8
    dash: Dash | None = None


@dataclass(frozen=True)
class Diamond:
    """One point that stands out; ``at`` is None in a legend alone."""

    at: tuple[float, float] | None
    colour: str
    label: str = ""


Shape = Curve | Bars | Ticks | Rule | Diamond


@dataclass(frozen=True)
class Panel:
    """One pair of axes and what is drawn on it, what comes first behind the others; ``columns`` has no vertical grid."""

    x: Axis
    y: Axis
    shapes: list[Shape]
    columns: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure: its panels, which share a legend."""

    panels: list[Panel]
    legend: list[Shape] = field(default_factory=list)

    @property
    def keys(self) -> list[Shape]:
        """What stands in the legend: each label once."""
        keys: dict[str, Shape] = {}
        for shape in (*(shape for panel in self.panels for shape in panel.shapes), *self.legend):
            keys.setdefault(shape.label, shape)
        return [shape for label, shape in keys.items() if label]
