"""Connected defect regions, and AUPRO, the metric that weights each region equally."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import UndefinedMetric
from anomaly_metrics.arrays import maps_and_masks
from anomaly_metrics.curves import Curve, curve

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def aupro(maps: Any, masks: Any, fpr_limit: float = 0.3) -> float:
    """Area under the per-region-overlap curve up to a false-positive rate, divided by that rate: in [0, 1].

    Regions are 8-connected and averaged equally over all images; the rate is over all pixels outside them; tied scores enter
    together; the curve is interpolated at the limit. Exact: every distinct score is a threshold.

    Args:
        maps: float (N, H, W) or (N, 1, H, W), tensor or array, higher is more anomalous.
        masks: as many; above 0 is defective.
        fpr_limit: 0.3 as MVTec AD, VisA and BTAD are judged, 0.05 as MVTec AD 2.

    Raises:
        UndefinedMetric: no pixel is defective, or all are.
        AnomalyError: a map has NaN or infinite values, the shapes differ, or the limit is not in (0, 1].

    Source: Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021.
    """
    return _curve(maps, masks).aupro(fpr_limit)


def pro_curve(maps: Any, masks: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false-positive rate, per-region overlap), float64 (P,), both rising from 0 to 1; arguments as :func:`aupro`."""
    return _curve(maps, masks).pro()


def region_shares(masks: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Each defective pixel's share of its own region, and the number of regions.

    Args:
        masks: bool (N, H, W).

    Returns:
        (1 / size of the pixel's region, float64, in the order of ``masks[masks]``; number of regions over all images)
    """
    from scipy import ndimage  # where there are masks alone: it takes a moment to import

    shares, regions = [np.zeros(0)], 0
    for mask in masks[masks.any(axis=(1, 2))]:
        labels, count = ndimage.label(mask, EIGHT_CONNECTED)
        own = labels[mask]
        shares.append(1 / np.bincount(own)[own])
        regions += count
    return np.concatenate(shares), regions


def _curve(maps: Any, masks: Any) -> Curve:
    images, truth = maps_and_masks(maps, masks)
    shares, regions = region_shares(truth)
    if not regions:
        raise UndefinedMetric("no mask marks an anomalous pixel")
    return curve(images, truth, shares / regions)
