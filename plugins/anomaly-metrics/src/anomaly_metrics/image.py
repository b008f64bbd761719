"""Threshold-free metrics of image scores."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_core import BaseMetric, Batch, Calibration, Prediction, UndefinedMetric
from anomaly_metrics.functional import auroc, average_precision, f1_max


class ImageMetric(BaseMetric):
    """Collects the scores and labels of images with a known label."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    def update(self, batch: Batch, prediction: Prediction) -> None:
        known = batch.labels >= 0
        self._scores.append(prediction.scores[known])
        self._labels.append(batch.labels[known])

    def gathered(self) -> tuple[Tensor, Tensor]:
        """(scores (N,), labels (N,)); UndefinedMetric where no label is known."""
        if not sum(map(len, self._labels)):
            raise UndefinedMetric("no image has a known label")
        return torch.cat(self._scores), torch.cat(self._labels)


class ImageAUROC(ImageMetric):
    """Area under the ROC curve of the image scores."""

    def compute(self) -> float:
        return auroc(*self.gathered())


class ImageAP(ImageMetric):
    """Average precision of the image scores."""

    def compute(self) -> float:
        return average_precision(*self.gathered())


class ImageF1Max(ImageMetric):
    """Best F1 over all thresholds: an oracle, because its threshold is chosen on the test set."""

    def compute(self) -> float:
        return f1_max(*self.gathered())[0]


class ObjectAUROC(ImageMetric):
    """Area under the ROC curve of objects that are photographed from several sides, as Real-IAD judges them.

    An object scores as its worst view, and is anomalous if any of its views is. ``Sample.extra["object"]`` says which object an
    image shows.

    Source: Wang et al., Real-IAD, CVPR 2024 (S-AUROC).
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._objects: list[object] = []

    def update(self, batch: Batch, prediction: Prediction) -> None:
        super().update(batch, prediction)
        known = (batch.labels >= 0).tolist()
        self._objects += [s.extra.get("object") for s, has_label in zip(batch.samples, known, strict=True) if has_label]

    def compute(self) -> float:
        scores, labels = self.gathered()
        silent = self._objects.count(None)
        if silent:
            raise UndefinedMetric(f"{silent} of {len(self._objects)} images do not say which object they show")
        worst: dict[object, tuple[float, int]] = {}
        for shown, score, label in zip(self._objects, scores.tolist(), labels.tolist(), strict=True):
            before = worst.get(shown, (score, label))
            worst[shown] = max(before[0], score), max(before[1], label)
        return auroc(*zip(*worst.values(), strict=True))
