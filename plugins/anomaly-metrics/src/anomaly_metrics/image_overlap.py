"""AUPIMO: how much of each defect is detected at very low false-positive rates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import AnomalyError, UndefinedMetric
from anomaly_metrics.arrays import maps_and_masks

FPR_BOUNDS = (1e-5, 1e-4)


def aupimo(maps: Any, masks: Any, fpr_bounds: tuple[float, float] = FPR_BOUNDS) -> NDArray[np.float64]:
    """Area under the per-image-overlap curve of each anomalous image: float64 (N,) in [0, 1], NaN for normal images.

    All images share the horizontal axis: the false-positive rate of the normal images alone, on a log scale between the
    bounds (the mean rate, equal to the rate over all their pixels because all have one size). The vertical axis is the share
    of an image's defective pixels that is detected. The area is divided by log(upper / lower). Exact: each rate uses the
    lowest threshold that does not exceed it.

    Args:
        maps: float (N, H, W) or (N, 1, H, W), tensor or array, higher is more anomalous.
        masks: as many; above 0 is defective. An image without a defective pixel is a normal image.
        fpr_bounds: (lower, upper), 0 < lower < upper <= 1.

    Raises:
        UndefinedMetric: no image is anomalous, or the normal ones have too few pixels to tell the lower bound from 0.
        AnomalyError: a map has NaN or infinite values, the shapes differ, or the bounds are not in order.

    Source: Bertoldo et al., AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance, 2024,
    arXiv 2401.01984.
    """
    images, truth = maps_and_masks(maps, masks)
    if not truth.any():
        raise UndefinedMetric("no mask marks an anomalous pixel")
    normal = images[~truth.any(axis=(1, 2))].ravel()
    falling = highest(normal, top_count(normal.size, fpr_bounds))
    defects = [np.sort(image[mask]) for image, mask in zip(images, truth, strict=True)]
    return np.array([aupimo_of_image(rising, falling, normal.size, fpr_bounds) for rising in defects])


def top_count(normal: int, fpr_bounds: tuple[float, float]) -> int:
    """How many of the highest normal pixels decide; UndefinedMetric where the lower bound is less than one of them."""
    lower, upper = fpr_bounds
    if not 0 < lower < upper <= 1:
        raise AnomalyError(f"fpr_bounds are {fpr_bounds}: expected (lower, upper) with 0 < lower < upper <= 1.")
    if normal * lower < 1:
        raise UndefinedMetric(
            f"the normal images have {normal} pixels in all: a false-positive rate of {lower:g} is less than one of them"
        )
    return min(math.ceil(upper * normal), normal)


def highest(values: NDArray[Any], count: int) -> NDArray[Any]:
    """The `count` highest values, falling."""
    return np.sort(np.partition(values, values.size - count)[values.size - count :])[::-1]


def aupimo_of_image(
    rising: NDArray[Any], falling: NDArray[Any], normal: int, fpr_bounds: tuple[float, float] = FPR_BOUNDS
) -> float:
    """AUPIMO of one image; NaN without a defective pixel.

    Args:
        rising: (P,), the values of its defective pixels, sorted.
        falling: (:func:`top_count`,), the highest values of the normal images' pixels, sorted.
        normal: how many pixels the normal images have in all.
    """
    if not rising.size:
        return math.nan
    lower, upper = fpr_bounds
    first = math.floor(lower * normal)
    # From the rate (k - 1) / normal to k / normal, the threshold is just above the k-th highest normal pixel.
    rates = np.clip(np.arange(first, falling.size + 1) / normal, lower, upper)
    overlap = 1 - np.searchsorted(rising, falling[first:], side="right") / rising.size
    return float(np.sum(np.diff(np.log(rates)) * overlap) / math.log(upper / lower))
