"""A metric that counts the pixels that masks mark, as metrics see them."""

from __future__ import annotations

from anomaly_core import BaseMetric, Batch, Calibration, MetricSpec, Prediction, UndefinedMetric

MARKED = MetricSpec(target="marking:Marked", level="pixel", summary="Pixels that are marked as defective.")


class Marked(BaseMetric):
    """Counts the pixels that masks mark."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.count: int | None = None

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if batch.masks is not None and batch.has_mask.any():
            self.count = (self.count or 0) + int(batch.masks[batch.has_mask].sum())

    def compute(self) -> float:
        if self.count is None:
            raise UndefinedMetric("no image has a mask")
        return float(self.count)
