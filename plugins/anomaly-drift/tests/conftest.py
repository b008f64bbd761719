"""The core, this distribution and the tiny components of the core's tests are all that is installed; streams of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from anomaly_core import Calibration
from anomaly_drift import FACTS

Stream = Iterator[dict[str, Any]]


@pytest.fixture(scope="session")
def companions() -> tuple[str, ...]:
    return ("anomaly-drift", "anomaly-predict")


class Line:
    """A line whose images have normally distributed scores and facts.

    Args:
        seed: of everything.
        count: normal images that set the threshold.
        scored_by: see :class:`Calibration`.
    """

    def __init__(self, seed: int, count: int = 200, scored_by: Any = "holdout") -> None:
        self.random = np.random.default_rng(seed)
        scores = sorted(self.random.standard_normal(count).tolist())
        empty = Calibration(None, 0.01, count, "normal images", scores=tuple(scores), scored_by=scored_by)
        self.calibration = empty.at_rate(0.01)
        self.images = [self.facts() for _ in range(count)]

    def facts(self, light: float = 1.0) -> dict[str, float]:
        """Facts that vary by 5 %; ``light`` multiplies the brightness."""
        values = dict.fromkeys(FACTS, 0.5) | {"brightness": 100 * light}
        return {name: float(value * (1 + 0.05 * self.random.standard_normal())) for name, value in values.items()}

    def stream(self, count: int, *, light: float = 1.0, score: float = 0.0, defects: float = 0.0) -> Stream:
        """Arguments of ``update`` for ``count`` images, a share of which has a score far above the others."""
        for _ in range(count):
            raw = score + self.random.standard_normal() + 10 * (self.random.random() < defects)
            yield {
                "p_value": self.calibration.p_value(raw),
                "facts": self.facts(light),
                "id": str(self.random.random()),
                "is_anomalous": self.calibration.is_anomalous(raw),
            }


@pytest.fixture
def line() -> Callable[..., Line]:
    return Line
