"""The threshold of least expected cost, from what misses and false alarms cost and how often there are defects."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Costs:
    """What decides: costs in any unit, as only their ratio counts.

    Attributes:
        miss, alarm: the costs of a defect that is missed and of a good image that is called anomalous.
        defect_rate: the share of defective images on the line, which a test set does not show.
    """

    miss: float
    alarm: float
    defect_rate: float

    def __str__(self) -> str:
        return f"{self.miss:g} for a miss, {self.alarm:g} for a false alarm, {100 * self.defect_rate:g} % of images defective"

    def expected(self, threshold: float, normal: Sequence[float], anomalous: Sequence[float]) -> float:
        """The expected cost of an image at a threshold, by the shares of the scores on its wrong side."""
        missed = np.mean(np.asarray(anomalous) <= threshold)
        alarmed = np.mean(np.asarray(normal) > threshold)
        return float(self.defect_rate * self.miss * missed + (1 - self.defect_rate) * self.alarm * alarmed)

    def best(self, normal: Sequence[float], anomalous: Sequence[float]) -> tuple[float, float]:
        """(threshold, expected cost an image): the least. Where several thresholds share it, the middle of their widest gap.

        Args:
            normal: scores of normal images that the detector did not see.
            anomalous: scores of anomalous images.
        """
        values = np.unique(np.concatenate([normal, anomalous]).astype(np.float64))
        missed = np.searchsorted(np.sort(anomalous), values, side="right") / len(anomalous)
        alarmed = 1 - np.searchsorted(np.sort(normal), values, side="right") / len(normal)
        costs = self.defect_rate * self.miss * missed + (1 - self.defect_rate) * self.alarm * alarmed
        all_anomalous = (1 - self.defect_rate) * self.alarm
        if all_anomalous < costs.min():
            return float(np.nextafter(values[0], -np.inf)), all_anomalous
        # At values[i] and up to values[i + 1], nothing changes; above the greatest score there is no gap.
        gaps = np.append(np.diff(values), 0.0)
        best = int(np.argmax(np.where(np.isclose(costs, costs.min(), rtol=1e-12, atol=0), gaps, -1.0)))
        return float(values[best] + gaps[best] / 2), float(costs[best])


def drawn(items: Sequence[T], kinds: Sequence[str], share: float, seed: int) -> list[T]:
    """A share of the items of each kind, at least one in all, and at least one of all left; drawn by the seed."""
    chosen: list[T] = []
    draw = random.Random(seed)
    owed = 0.0
    for kind in sorted(set(kinds)):
        own = [item for item, its in zip(items, kinds, strict=True) if its == kind]
        owed += share * len(own)
        count = min(round(owed), len(own))
        owed -= count
        chosen += draw.sample(own, count)
    return chosen
