"""AU-sPRO: per-region overlap that is full once enough of a defect is marked, for logical anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import (
    BaseMetric,
    Batch,
    Calibration,
    MaskSource,
    Prediction,
    Sample,
    UndefinedMetric,
    read_mask_classes,
)
from anomaly_metrics.arrays import as_array, require_finite
from anomaly_metrics.curves import curve
from anomaly_metrics.histogram import ScoreHistogram
from anomaly_metrics.regions import EIGHT_CONNECTED

Defect = tuple[NDArray[np.bool_], float]  # its pixels (H, W), and how many of them are enough


def au_spro(maps: Sequence[Any], defects: Sequence[Sequence[Defect]], fpr_limit: float = 0.05) -> float:
    """Area under the saturated per-region-overlap curve up to a false-positive rate, divided by that rate: in [0, 1].

    A defect of which n pixels are marked, where s are enough, counts as min(n / s, 1); with s its area this is AUPRO. Defects
    may overlap, and are averaged equally over all images; the rate is over all pixels outside them. Exact: every distinct score
    is a threshold.

    Args:
        maps: float (H, W) of each image, higher is more anomalous.
        defects: of each image, a pair for each defect: bool (H, W), and s in pixels. None for a normal image.
        fpr_limit: 0.05 as MVTec LOCO AD is judged.

    Raises:
        UndefinedMetric: no pixel is defective, or all are.
        AnomalyError: a map has NaN or infinite values, or the limit is not in (0, 1].

    Source: Bergmann et al., Beyond Dents and Scratches, IJCV 2022 (MVTec LOCO AD).
    """
    parts = [_counted(as_array(anomaly_map), own) for anomaly_map, own in zip(maps, defects, strict=True)]
    count = sum(map(len, defects))
    if not count:
        raise UndefinedMetric("no mask marks an anomalous pixel")
    scores, anomalous, shares = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return curve(scores, anomalous, shares / count).aupro(fpr_limit)


def saturated_shares(scores: NDArray[np.float32], enough: float) -> NDArray[np.float64]:
    """What each pixel of a defect adds to its overlap as the threshold falls: 1 / enough, until that is 1 in all.

    Args:
        scores: (P,), the map at the defect's pixels.
        enough: how many of them are enough, above 0.
    """
    shares = np.empty(scores.size)
    shares[np.argsort(-scores, kind="stable")] = (enough - np.arange(scores.size)).clip(0, 1) / enough
    return shares


def _counted(
    anomaly_map: NDArray[np.float32], defects: Sequence[Defect]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """(scores (H * W,), anomalous (H * W,), each anomalous pixel's share of its defects)."""
    shares = np.zeros(anomaly_map.shape)
    anomalous = np.zeros(anomaly_map.shape, dtype=bool)
    for pixels, enough in defects:
        shares[pixels] += saturated_shares(anomaly_map[pixels], enough)
        anomalous |= pixels
    return anomaly_map.ravel(), anomalous.ravel(), shares[anomalous]


class AUSPRO005(BaseMetric):
    """:func:`~anomaly_metrics.au_spro` up to 0.05, in constant memory: from a fine histogram.

    Each of an image's masks is a defect, or each value of one mask. ``Sample.extra["saturation"]`` maps these values to objects
    whose method ``pixels(area)`` says how many pixels are enough. As that is counted in the image's own pixels, maps must have
    the image's size: ``data.evaluate_at=native``. Where a sample says nothing, each connected region is a defect and all of it
    is enough, which makes its overlap that of AUPRO. Anomalous images without a mask are left out.
    """

    fpr_limit = 0.05

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._histogram = ScoreHistogram()
        self._defects = 0
        self._undefined: UndefinedMetric | None = None

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if prediction.maps is None:
            self._undefined = UndefinedMetric("the method makes no anomaly maps")
        if batch.valid is not None:
            self._undefined = UndefinedMetric("it counts pixels of whole images: leave out data.roi and data.ignore")
        if self._undefined is not None or prediction.maps is None:
            return
        for number, sample in enumerate(batch.samples):
            if batch.masks is None or not batch.has_mask[number]:
                continue
            anomaly_map = prediction.maps[number, 0].detach().float().numpy()
            require_finite(anomaly_map)
            try:
                defects = defects_of(sample, batch.masks[number, 0].numpy() != 0)
            except UndefinedMetric as reason:
                self._undefined = reason
                return
            self._histogram.add(*_counted(anomaly_map, defects), len(defects))
            self._defects += len(defects)

    def compute(self) -> float:
        if self._undefined is not None:
            raise self._undefined
        if not self._defects:
            raise UndefinedMetric("the data set has no masks")
        return self._histogram.curve().aupro(self.fpr_limit)


def defects_of(sample: Sample, mask: NDArray[np.bool_]) -> list[Defect]:
    """The defects in an image's masks, or the regions of its bool (H, W) ``mask`` if nothing says how much of them is enough.

    UndefinedMetric if the masks have another shape, or do not say which defect is meant.
    """
    saturation = sample.extra.get("saturation")
    if not saturation:
        from scipy import ndimage

        labels, count = ndimage.label(mask, EIGHT_CONNECTED)
        regions = [labels == number for number in range(1, count + 1)]
        return [(region, int(region.sum())) for region in regions]
    if isinstance(sample.mask_path, MaskSource):
        raise UndefinedMetric("its masks are no files whose values name the defects")
    defects: list[Defect] = []
    for path in sample.mask_files:
        classes = read_mask_classes(path)
        if classes.shape != mask.shape:
            raise UndefinedMetric("it counts pixels of whole images: set data.evaluate_at=native, no crop and no data.roi")
        for value in np.unique(classes[classes != 0]).tolist():
            if value not in saturation:
                raise UndefinedMetric(f"how much is enough of the defect of value {value} in {str(path)!r} is not said")
            pixels = classes == value
            defects.append((pixels, saturation[value].pixels(int(pixels.sum()))))
    return defects
