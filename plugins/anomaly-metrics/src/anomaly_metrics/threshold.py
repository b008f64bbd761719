"""Metrics of the verdicts at the calibrated threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly_core import UndefinedMetric
from anomaly_metrics.image import ImageMetric


class VerdictMetric(ImageMetric):
    """Verdicts at the calibrated threshold; ``score > threshold`` is anomalous."""

    def verdicts(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(truth (N,), verdict (N,)); UndefinedMetric without a threshold."""
        if self.calibration is None or self.calibration.threshold is None:
            raise UndefinedMetric(
                "there is no threshold: no normal image was left to set it (add some, or leave data.holdout out)"
            )
        scores, labels = self.gathered()
        return labels.numpy() == 1, scores.double().numpy() > self.calibration.threshold


class ImageAccuracy(VerdictMetric):
    """Share of correct verdicts."""

    def compute(self) -> float:
        truth, verdict = self.verdicts()
        return float((truth == verdict).mean())


class ImagePrecision(VerdictMetric):
    """Share of true anomalies among the images called anomalous."""

    def compute(self) -> float:
        truth, verdict = self.verdicts()
        if not verdict.any():
            raise UndefinedMetric("no image was called anomalous")
        return float(truth[verdict].mean())


class ImageRecall(VerdictMetric):
    """Share of the anomalous images that were called so."""

    def compute(self) -> float:
        truth, verdict = self.verdicts()
        if not truth.any():
            raise UndefinedMetric("no image is anomalous")
        return float(verdict[truth].mean())


class ImageF1(VerdictMetric):
    """Harmonic mean of precision and recall."""

    def compute(self) -> float:
        truth, verdict = self.verdicts()
        if not (truth.any() or verdict.any()):
            raise UndefinedMetric("no image is anomalous, and none was called so")
        return float(2 * (truth & verdict).sum() / (truth.sum() + verdict.sum()))
