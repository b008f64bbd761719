"""Metrics of each level, in a few lines of numpy."""

from __future__ import annotations

import numpy as np

from anomaly_core import ANOMALOUS, NORMAL, BaseMetric, Batch, Calibration, Prediction, UndefinedMetric


class _Images(BaseMetric):
    """Gathers labels and scores of images."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._labels: list[int] = []
        self._scores: list[float] = []

    def update(self, batch: Batch, prediction: Prediction) -> None:
        self._labels += batch.labels.tolist()
        self._scores += prediction.scores.tolist()

    def scores(self, label: int) -> np.ndarray:
        """Those of one label."""
        chosen = np.array(self._scores)[np.array(self._labels) == label]
        if not len(chosen):
            raise UndefinedMetric(f"none of {len(self._labels)} images has the label {label}")
        return chosen


class Auroc(_Images):
    """How often an anomalous image scores above a normal one."""

    def compute(self) -> float:
        good, bad = self.scores(NORMAL)[:, None], self.scores(ANOMALOUS)[None]
        return float(((bad > good) + 0.5 * (bad == good)).mean())

    def curves(self) -> dict[str, tuple[list[float], list[float]]]:
        scores = sorted(self._scores)
        return {"scores": ([float(rank) for rank in range(len(scores))], scores)}


class Alarms(_Images):
    """The share of normal images above the threshold."""

    def compute(self) -> float:
        if self.calibration is None or self.calibration.threshold is None:
            raise UndefinedMetric("there is no threshold (data.holdout=0)")
        return float((self.scores(NORMAL) > self.calibration.threshold).mean())


class BestAccuracy(_Images):
    """The accuracy at the best of all thresholds."""

    def compute(self) -> float:
        good, bad = self.scores(NORMAL), self.scores(ANOMALOUS)
        right = [(good <= t).sum() + (bad > t).sum() for t in np.concatenate([good, bad])]
        return float(max(right) / (len(good) + len(bad)))


class Contrast(BaseMetric):
    """By how much the map is higher where there is a defect."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._inside: list[np.ndarray] = []
        self._outside: list[np.ndarray] = []

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if batch.masks is None or prediction.maps is None:
            return
        masks, maps = batch.masks[batch.has_mask], prediction.maps[batch.has_mask]
        self._inside.append(maps[masks].numpy())
        self._outside.append(maps[~masks].numpy())

    def compute(self) -> float:
        if not sum(map(len, self._inside)):
            raise UndefinedMetric("no mask marks a pixel")
        return float(np.concatenate(self._inside).mean() - np.concatenate(self._outside).mean())


class Residue(BaseMetric):
    """The mean difference of images and their reconstructions."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._differences: list[float] = []

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if prediction.reconstruction is not None:
            self._differences.append(float((batch.images - prediction.reconstruction).abs().mean()))

    def compute(self) -> float:
        if not self._differences:
            raise UndefinedMetric("the method does not reconstruct")
        return sum(self._differences) / len(self._differences)
