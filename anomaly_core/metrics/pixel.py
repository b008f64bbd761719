"""Threshold-free metrics of anomaly maps: one flat vector of pixels a category, good images included."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_core.base.metric import BaseMetric
from anomaly_core.calibration import Calibration
from anomaly_core.errors import AnomalyError, UndefinedMetric
from anomaly_core.metrics.functional import Curve, curve
from anomaly_core.types import Batch, Prediction


class PixelMetric(BaseMetric):
    """Gathers maps and masks by reference, so that several metrics hold them once.

    Anomalous images that came without a mask are left out, for their pixels say nothing.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self._without_maps = False

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if prediction.maps is None:
            self._without_maps = True
        elif batch.masks is not None:
            if prediction.maps.shape != batch.masks.shape:
                raise AnomalyError(
                    f"anomaly maps of shape {tuple(prediction.maps.shape)} against masks of {tuple(batch.masks.shape)}: "
                    "predict_step must return maps (B, 1, H, W) at the size of its input."
                )
            self._parts.append((prediction.maps, batch.masks, batch.has_mask))

    def curve(self) -> Curve:
        """The curve over all pixels; UndefinedMetric without maps, without masks, or with pixels of one class only."""
        if self._without_maps:
            raise UndefinedMetric("the method makes no anomaly maps")
        if not self._parts:
            raise UndefinedMetric("the data set has no masks")
        known = [(maps, masks) if has.all() else (maps[has], masks[has]) for maps, masks, has in self._parts]
        masks = torch.cat([masks.flatten() for _, masks in known])
        if not masks.any():
            raise UndefinedMetric("no mask marks an anomalous pixel")
        return curve(torch.cat([maps.flatten() for maps, _ in known]), masks)


class PixelAUROC(PixelMetric):
    """Area under the ROC curve of the map values."""

    def compute(self) -> float:
        return self.curve().auroc()


class PixelAP(PixelMetric):
    """Average precision of the map values."""

    def compute(self) -> float:
        return self.curve().average_precision()


class PixelF1Max(PixelMetric):
    """Best F1 of the map values over all thresholds: an oracle, for its threshold is chosen on the test set."""

    def compute(self) -> float:
        return self.curve().f1_max()[0]
