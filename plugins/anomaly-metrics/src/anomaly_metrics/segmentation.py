"""SegF1: the F1 of a segmentation at one threshold, over the pixels of all images together."""

from __future__ import annotations

from typing import Any

import numpy as np

from anomaly_core import UndefinedMetric
from anomaly_metrics.arrays import maps_and_masks

Counts = tuple[int, int, int]  # pixels: true positives, false positives, false negatives


def seg_f1(maps: Any, masks: Any, threshold: float) -> float:
    """Harmonic mean of precision and recall of ``map > threshold``, over the pixels of all images together.

    Args:
        maps: float (N, H, W) or (N, 1, H, W), tensor or array, higher is more anomalous.
        masks: as many; above 0 is defective.
        threshold: of a map's values, chosen without the images that are judged.

    Raises:
        UndefinedMetric: no pixel is defective, and none was called so.
        AnomalyError: a map has NaN or infinite values, or the shapes differ.

    Source: Heckler-Kram et al., The MVTec AD 2 Dataset, 2025, arXiv 2503.21622.

    >>> seg_f1([[[0.2, 0.9], [0.8, 0.1]]], [[[0, 1], [0, 1]]], 0.5)
    0.5
    """
    images, truth = maps_and_masks(maps, masks)
    return f1_of(segmented(images, truth, threshold))


def segmented(maps: Any, truth: Any, threshold: float) -> Counts:
    """The pixels of a segmentation of numpy arrays, counted."""
    marked = maps > threshold
    true = int(np.count_nonzero(marked & truth))
    return true, int(np.count_nonzero(marked)) - true, int(np.count_nonzero(truth)) - true


def f1_of(counts: Counts) -> float:
    """The F1 of counted pixels; UndefinedMetric where there is nothing to find, and nothing was found."""
    true, false, missed = counts
    if not any(counts):
        raise UndefinedMetric("no pixel is anomalous, and none was called so")
    return 2 * true / (2 * true + false + missed)
