"""BaseMetric: a figure of merit, fed batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

from anomaly_core.calibration import Calibration
from anomaly_core.types import Batch, Prediction


class BaseMetric(ABC):
    """A metric of one category.

    Args:
        calibration: the threshold from held-out normal images, for metrics that need one.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration

    @abstractmethod
    def update(self, batch: Batch, prediction: Prediction) -> None:
        """Take in a batch and its prediction, both on the CPU. Raw scores: nothing is clamped or rescaled."""

    @abstractmethod
    def compute(self) -> float:
        """The value over all that was taken in; UndefinedMetric with the reason where there is none."""
