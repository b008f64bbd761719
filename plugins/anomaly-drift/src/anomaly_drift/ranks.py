"""Ranks of a stream of values among those before them, in memory that does not grow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import Calibration

_CELLS = 200


class Ranks:
    """Each value's smoothed rank among a finite reference and the stream so far: for exchangeable values independent and
    uniform in (0, 1), whatever their distribution and however few the reference has.

    A stream ranked among a fixed reference alone would not be: its ranks share the reference's luck. Here each value joins the
    reference when it has been ranked (online conformal prediction). Only counts are kept, in the cells between the edges and
    on them; ties in a cell are broken at random, which keeps the ranks exact and loses a little of their resolution.

    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 2.2 (smoothed p-values).

    Args:
        edges: distinct values, rising.
        mass: float (2 * edges + 1,): counts below the first edge, on it, between it and the next, on that, and so on.
        own: what a value counts in its own cell while it is ranked: 1; 0 where the mass already holds the share of a value to
            come.
    """

    def __init__(self, edges: list[float], mass: NDArray[np.float64], own: int = 1) -> None:
        self.edges, self.mass, self.own = edges, mass, own
        self.total = float(mass.sum())

    @classmethod
    def of(cls, values: Iterable[float]) -> Ranks:
        """Ranks among a reference of values."""
        edges, counts = np.unique(np.fromiter(values, dtype=np.float64), return_counts=True)
        mass = np.zeros(2 * len(edges) + 1)
        mass[1::2] = counts
        return cls(edges.tolist(), mass)

    @classmethod
    def of_p_values(cls, calibration: Calibration, *, alone: bool = False) -> Ranks:
        """Ranks of a calibration's p-values, which say between which two of its N scores a score lies.

        An unseen score falls with equal probability into each of the N + 1 places between them, of which tied ones are one.

        Args:
            calibration: with its scores.
            alone: rank the stream among itself; the calibration gives the places only.
        """
        scores = np.sort(np.asarray(calibration.scores))
        count = len(scores)
        _, first, ties = np.unique(scores, return_index=True, return_counts=True)
        places = np.concatenate([count - first, [0]])  # how many scores are no lower: the p-value's numerator, less one
        weights = np.concatenate([ties, [1]]).astype(np.float64)
        cells = min(count + 1, _CELLS)
        index = places * cells // (count + 1)
        mass = np.zeros(2 * cells + 1)
        np.add.at(mass, 2 * index + 1, weights)
        ranks = cls([float(cell) for cell in range(cells)], np.zeros_like(mass) if alone else mass, own=int(alone))
        return ranks

    def next(self, value: float, uniform: float) -> float:
        """The rank of the next value, with a uniform random number that breaks ties; it then joins the reference."""
        cell = self._cell(value)
        below, here = float(self.mass[:cell].sum()), float(self.mass[cell])
        rank = (below + uniform * (here + self.own)) / (self.total + self.own)
        self.mass[cell] += 1
        self.total += 1
        return rank

    def middle(self, value: float) -> float:
        """The share of all values so far that lie below a value, ties counted half."""
        cell = self._cell(value)
        return (float(self.mass[:cell].sum()) + float(self.mass[cell]) / 2) / max(self.total, 1.0)

    def _cell(self, value: float) -> int:
        place = bisect_left(self.edges, value)
        return 2 * place + (place < len(self.edges) and self.edges[place] == value)

    def state(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"edges": self.edges, "mass": self.mass.astype(int).tolist(), "own": self.own}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Ranks:
        """The ranks from :meth:`state`."""
        return cls(list(map(float, state["edges"])), np.asarray(state["mass"], dtype=np.float64), int(state["own"]))


def place_of(p_value: float, count: int) -> float:
    """The cell of :meth:`Ranks.of_p_values` that a p-value from a calibration of ``count`` scores lies in."""
    numerator = min(max(round(p_value * (count + 1)) - 1, 0), count)
    return float(numerator * min(count + 1, _CELLS) // (count + 1))
