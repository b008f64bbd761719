"""Curve: the counts from which all threshold-free metrics are computed, with one sort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import AnomalyError
from anomaly_metrics.arrays import require_both_classes, scores_and_labels


@dataclass(frozen=True)
class Curve:
    """Counts at each distinct anomalous score, ascending: the only thresholds where recall changes.

    The counts are int64, or float64 if they come from a histogram; its bins then represent the scores.

    Args:
        thresholds: (T,), of the scores' dtype.
        true_positives: (T,), how many anomalous ones are at or above it.
        false_positives: (T,), how many normal ones are at or above it.
        ties: (T,), how many normal ones are exactly there.
        normal: how many normal ones there are.
        overlap: float64 (T,), the mean over regions of the share at or above it; None where regions are unknown.
    """

    thresholds: NDArray[Any]
    true_positives: NDArray[Any]
    false_positives: NDArray[Any]
    ties: NDArray[Any]
    normal: int
    overlap: NDArray[np.float64] | None = None

    @property
    def gained(self) -> NDArray[Any]:
        """(T,), how many anomalous ones are exactly at each threshold."""
        return -np.diff(self.true_positives, append=0)

    def auroc(self) -> float:
        """The share of (anomalous, normal) pairs in the right order, ties half (Mann-Whitney)."""
        # Python's own integers neither overflow nor round.
        twice = np.sum(self.gained * (2 * (self.normal - self.false_positives) + self.ties)).item()
        return float(twice / (2 * self.true_positives[0].item() * self.normal))

    def average_precision(self) -> float:
        """The step sum over recall."""
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.sum(self.gained * precision) / self.true_positives[0])

    def f1_max(self) -> tuple[float, float]:
        """Best F1 and its threshold; the highest threshold in case of ties."""
        # Never 0/0: at least one anomalous score is at or above each threshold.
        f1 = 2 * self.true_positives / (self.true_positives + self.false_positives + self.true_positives[0])
        best = int(np.flatnonzero(f1 == f1.max())[-1])
        return float(f1[best]), float(self.thresholds[best])

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(FPR, TPR), both float64 (T + 2,), rising from (0, 0) to (1, 1)."""
        fpr = np.concatenate(([0.0], self.false_positives[::-1] / self.normal, [1.0]))
        return fpr, np.concatenate(([0.0], self.true_positives[::-1] / self.true_positives[0], [1.0]))

    def precision_recall(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(recall, precision), both float64 (T,), recall rising."""
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return self.true_positives[::-1] / self.true_positives[0], precision[::-1]

    def pro(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(FPR, PRO), both float64 (2 T + 2,), rising from (0, 0) to (1, 1).

        Two points a threshold, just above it and at it: a step up where no normal score ties, a slope where one does.
        """
        if self.overlap is None:
            raise AnomalyError("this curve was made of labels, not of masks: it knows no regions. Use aupro(maps, masks).")
        fpr, pro = np.zeros(2 * self.thresholds.size + 2), np.ones(2 * self.thresholds.size + 2)
        fpr[1:-1:2] = (self.false_positives - self.ties)[::-1]
        fpr[2:-1:2] = self.false_positives[::-1]
        fpr[-1] = self.normal
        pro[0] = pro[1] = 0
        pro[2:-1:2] = self.overlap[::-1]
        pro[3:-1:2] = pro[2:-2:2]
        return fpr / self.normal, pro

    def aupro(self, fpr_limit: float) -> float:
        """Area under the PRO curve up to the limit, where the curve is interpolated, as a share of the limit."""
        if not 0 < fpr_limit <= 1:
            raise AnomalyError(f"fpr_limit is {fpr_limit}: the false-positive rate up to which to integrate is in (0, 1].")
        fpr, pro = self.pro()
        inside = int(np.searchsorted(fpr, fpr_limit, side="right"))
        at_limit = pro[-1]
        if inside < fpr.size:
            (left, right), (low, high) = fpr[inside - 1 : inside + 1], pro[inside - 1 : inside + 1]
            at_limit = low + (high - low) * (fpr_limit - left) / (right - left)
        x, y = np.append(fpr[:inside], fpr_limit), np.append(pro[:inside], at_limit)
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / fpr_limit)


def curve(scores: Any, labels: Any, weights: NDArray[np.float64] | None = None) -> Curve:
    """The curve of scores and labels; arguments and errors as in :func:`anomaly_metrics.auroc`.

    The two classes are sorted separately and by value: much faster than sorting indices, and ties need no special case.

    Args:
        weights: float64, one for each anomalous score in the given order, summing to 1: what it adds to the overlap.
    """
    values, anomalous = scores_and_labels(scores, labels)
    rising, normal = values[anomalous], np.sort(values[~anomalous])
    require_both_classes(normal.size, rising.size)
    gained = None
    if weights is None:
        rising.sort()
    else:
        order = np.argsort(rising)
        rising, gained = rising[order], weights[order]
    starts = np.flatnonzero(np.concatenate(([True], rising[1:] != rising[:-1])))
    thresholds = rising[starts]
    below = np.searchsorted(normal, thresholds, side="left")
    ties = np.searchsorted(normal, thresholds, side="right") - below
    # Summed from the highest score down, the direction of the curve.
    overlap = None if gained is None else np.cumsum(gained[::-1])[::-1][starts]
    return Curve(thresholds, rising.size - starts, normal.size - below, ties, normal.size, overlap)
