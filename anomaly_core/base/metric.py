"""BaseMetric: a figure of merit, fed batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anomaly_core.types import Batch, Prediction

if TYPE_CHECKING:
    from anomaly_core.run.calibration import Calibration


class BaseMetric(ABC):
    """A metric for one category; ``calibration`` holds the threshold from held-out normal images, if the metric needs it."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration

    def share(self, others: Sequence[BaseMetric]) -> None:  # noqa: B027 - sharing is a choice
        """Called once, before the first update, with metrics that receive the same batches, so that they can share work."""

    def curves(self) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
        """Curves to draw, by name: x and y of a few hundred points; empty if the metric has no curve or no value."""
        return {}

    @abstractmethod
    def update(self, batch: Batch, prediction: Prediction) -> None:
        """Take in a batch and its prediction, both on the CPU. Raw scores: nothing is clamped or rescaled."""

    @abstractmethod
    def compute(self) -> float:
        """The value over all batches; UndefinedMetric, with the reason, if there is none."""
