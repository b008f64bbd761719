"""Metrics as pure functions of raw scores: ranks decide, nothing is clamped or rescaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core.errors import AnomalyError, UndefinedMetric


def auroc(scores: Any, labels: Any) -> float:
    """Area under the ROC curve, ties counted half: exact, for it is a ratio of integers.

    Args:
        scores: tensor or array of any shape, higher is more anomalous.
        labels: as many; 0 is normal, above 0 anomalous.

    Raises:
        UndefinedMetric: only one class is there.
        AnomalyError: a score is NaN or infinite, a label is negative, or the sizes differ.

    >>> auroc([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    0.875
    """
    return curve(scores, labels).auroc()


def average_precision(scores: Any, labels: Any) -> float:
    """Average precision: the step sum of (R_n - R_{n-1}) P_n, without interpolation; arguments as :func:`auroc`."""
    return curve(scores, labels).average_precision()


def f1_max(scores: Any, labels: Any) -> tuple[float, float]:
    """(best F1, its threshold): predicting ``score >= threshold`` anomalous gives that F1; arguments as :func:`auroc`."""
    return curve(scores, labels).f1_max()


@dataclass(frozen=True)
class Curve:
    """Counts at each distinct score of the anomalous, rising: the only thresholds where recall changes.

    Args:
        thresholds: (T,), of the scores' dtype.
        true_positives: int64 (T,), how many anomalous ones are at or above it.
        false_positives: int64 (T,), how many normal ones are at or above it.
        ties: int64 (T,), how many normal ones are exactly there.
        normal: how many normal ones there are.
    """

    thresholds: NDArray[Any]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    ties: NDArray[np.int64]
    normal: int

    @property
    def gained(self) -> NDArray[np.int64]:
        """int64 (T,), how many anomalous ones are exactly at each threshold."""
        return -np.diff(self.true_positives, append=0)

    def auroc(self) -> float:
        """The share of (anomalous, normal) pairs in the right order, ties half (Mann-Whitney)."""
        twice = int(np.sum(self.gained * (2 * (self.normal - self.false_positives) + self.ties)))
        return twice / (2 * int(self.true_positives[0]) * self.normal)

    def average_precision(self) -> float:
        """The step sum over recall."""
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.sum(self.gained * precision) / self.true_positives[0])

    def f1_max(self) -> tuple[float, float]:
        """Best F1 and its threshold, the highest where several are best."""
        # Never 0/0: at least one anomalous score stands at or above each threshold.
        f1 = 2 * self.true_positives / (self.true_positives + self.false_positives + self.true_positives[0])
        best = int(np.flatnonzero(f1 == f1.max())[-1])
        return float(f1[best]), float(self.thresholds[best])


def curve(scores: Any, labels: Any) -> Curve:
    """What all three metrics are read from, by sorting once; arguments and errors as :func:`auroc`.

    The two classes are sorted apart and by value: far faster than ordering indices, and ties need no care.
    """
    values, anomalous = _flat(scores), _flat(labels)
    if values.size != anomalous.size:
        raise AnomalyError(f"{values.size} scores and {anomalous.size} labels: a metric needs one label a score.")
    finite = np.isfinite(values)
    if not finite.all():
        first = int(np.argmin(finite))
        raise AnomalyError(
            f"{int((~finite).sum())} of {values.size} scores are NaN or infinite, first {values[first]} at position {first}: "
            "the model's output is damaged. Check its input and weights, and fit it again."
        )
    if anomalous.size and anomalous.min() < 0:
        raise AnomalyError(f"a label is {anomalous.min()}: 0 is normal, above 0 anomalous. Leave out what has no known label.")
    anomalous = anomalous != 0
    rising, normal = np.sort(values[anomalous]), np.sort(values[~anomalous])
    if not rising.size or not normal.size:
        only = "normal" if normal.size else "anomalous"
        raise UndefinedMetric(f"all {values.size} labels are {only}" if values.size else "there are no scores")
    starts = np.flatnonzero(np.concatenate(([True], rising[1:] != rising[:-1])))
    thresholds = rising[starts]
    below = np.searchsorted(normal, thresholds, side="left")
    ties = np.searchsorted(normal, thresholds, side="right") - below
    return Curve(thresholds, rising.size - starts, normal.size - below, ties, normal.size)


def _flat(values: Any) -> NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # numpy has no bfloat16; float32 holds its values exactly.
        values = values.float().numpy() if "bfloat16" in str(values.dtype) else values.numpy()
    return np.asarray(values).ravel()
