"""Verdicts and thresholds: what is a hit, a miss, a false alarm, and where the best F1 of the test set would lie."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from anomaly_core import AnomalyError
from anomaly_metrics import f1_max
from anomaly_report.finished import FinishedRun, Image

HIT, MISS, FALSE_ALARM, CORRECT, FLAGGED, PASSED, UNJUDGED = (
    "hit",
    "miss",
    "false alarm",
    "correct normal",
    "called anomalous",
    "called normal",
    "not judged",
)


def verdict(image: Image, threshold: float | None) -> str:
    """The verdict's name; ``score > threshold`` is anomalous, as in the core."""
    if threshold is None or image.score is None:
        return UNJUDGED
    anomalous = image.score > threshold
    if image.label is None:
        return FLAGGED if anomalous else PASSED
    if image.label:
        return HIT if anomalous else MISS
    return FALSE_ALARM if anomalous else CORRECT


@dataclass(frozen=True)
class Oracle:
    """The one threshold for all test images that the test set itself would choose.

    Attributes:
        threshold: halfway between the score that is the last to be called anomalous and the next lower one.
        f1: what it reaches.
    """

    threshold: float
    f1: float

    @classmethod
    def of(cls, run: FinishedRun) -> Oracle | None:
        """None where the test set has no label, or one class alone."""
        scores, labels = run.labelled()
        try:
            f1, at = f1_max(scores, labels)
        except AnomalyError:  # UndefinedMetric among them
            return None
        below = scores[scores < at]
        # The core's F1-max calls `score >= threshold` anomalous, the run `score > threshold`.
        return cls(float((at + below.max()) / 2) if below.size else float(np.nextafter(at, -np.inf)), f1)


@dataclass(frozen=True)
class Scale:
    """The axis of scores, the same in the figure and on the page.

    Attributes:
        low, high: its ends; all scores, those that set the threshold and the threshold itself lie between.
        log: logarithmic, where positive scores span more than twentyfold.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, run: FinishedRun) -> Scale:
        values = [image.score for image in run.images if image.score is not None]
        values += [score for score in run.result.calibration.scores if np.isfinite(score)]
        values += [] if run.threshold is None else [run.threshold]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        largest, smallest = sys.float_info.max, sys.float_info.min
        if low > 0 and high / 20 > low:
            margin = math.exp(0.03 * (math.log(high) - math.log(low)))
            return cls(max(low / margin, smallest), min(high * margin, largest), True)
        margin = min(0.03 * (high - low), largest) or max(abs(low) * 0.03, 1e-6)
        return cls(max(low - margin, -largest), min(high + margin, largest), False)
