"""Metrics of scores and labels as pure functions: ranks decide, nothing is clamped or rescaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_metrics.arrays import require_both_classes, scores_and_labels
from anomaly_metrics.curves import curve


def auroc(scores: Any, labels: Any) -> float:
    """Area under the ROC curve, with ties counted half; exact, because it is a ratio of integers.

    Args:
        scores: tensor or array of any shape, higher is more anomalous.
        labels: as many; 0 is normal, above 0 anomalous.

    Raises:
        UndefinedMetric: one class is missing.
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


def roc_curve(scores: Any, labels: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
    """(false-positive rate, true-positive rate, threshold), each (T,); arguments as :func:`auroc`.

    The thresholds fall from infinity, where the rates are 0, to the lowest score, where they are 1; predict ``score >=
    threshold``. Points on a straight line between their neighbours are left out.
    """
    thresholds, true, false, anomalous, normal = _counts(scores, labels)
    thresholds, true, false = thresholds[::-1], true[::-1], false[::-1]
    bends = np.ones(thresholds.size, dtype=bool)
    bends[1:-1] = (np.diff(true, 2) != 0) | (np.diff(false, 2) != 0)
    fpr, tpr = (np.append(0, counts[bends]) / total for counts, total in ((false, normal), (true, anomalous)))
    return fpr, tpr, np.append(np.inf, thresholds[bends])


def precision_recall_curve(scores: Any, labels: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
    """(precision (T + 1,), recall (T + 1,), threshold (T,)), thresholds rising; arguments as :func:`auroc`.

    One point for each distinct score, predicting ``score >= threshold``; the last, which has no threshold, is (1, 0).
    """
    thresholds, true, false, anomalous, _ = _counts(scores, labels)
    return np.append(true / (true + false), 1), np.append(true / anomalous, 0), thresholds


def _counts(scores: Any, labels: Any) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], int, int]:
    """Distinct scores, ascending; anomalous and normal counts at or above each; the totals of both."""
    values, anomalous = scores_and_labels(scores, labels)
    rising, normal = np.sort(values[anomalous]), np.sort(values[~anomalous])
    require_both_classes(normal.size, rising.size)
    thresholds = np.unique(values)
    true, false = (part.size - np.searchsorted(part, thresholds) for part in (rising, normal))
    return thresholds, true, false, rising.size, normal.size
