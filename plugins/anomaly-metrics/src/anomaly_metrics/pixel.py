"""Threshold-free metrics of anomaly maps: one flat vector of pixels a category, good images included."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import NORMAL, BaseMetric, Batch, Calibration, Prediction, UndefinedMetric
from anomaly_metrics.arrays import require_finite
from anomaly_metrics.curves import Curve
from anomaly_metrics.image_overlap import FPR_BOUNDS, aupimo_of_image, highest, top_count
from anomaly_metrics.pixels import EXACT_PIXELS, Part, PixelStore, judged
from anomaly_metrics.segmentation import f1_of, segmented

Points = dict[str, tuple[Sequence[float], Sequence[float]]]
DRAWN = 400  # points of a drawn curve


class PixelMetric(BaseMetric):
    """Computes its value from the curve over all pixels: exact up to EXACT_PIXELS, beyond that from a fine histogram.

    Anomalous images without a mask are left out, because the labels of their pixels are unknown.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._store = PixelStore(EXACT_PIXELS)
        self._fed = 0

    def share(self, others: Sequence[BaseMetric]) -> None:
        """Share the pixels of the first pixel metric among ``others``, which get the same batches; call before the first."""
        self._store = next((other._store for other in others if isinstance(other, PixelMetric)), self._store)

    def update(self, batch: Batch, prediction: Prediction) -> None:
        self._store.take(self._fed, batch, prediction)
        self._fed += 1

    def curve(self) -> Curve:
        """The curve over all pixels; UndefinedMetric without maps, without masks, or with pixels of one class only."""
        return self._store.curve(self._fed)


class PixelAUROC(PixelMetric):
    """Area under the ROC curve of the map values."""

    def compute(self) -> float:
        return self.curve().auroc()

    def curves(self) -> Points:
        return {"pixel_roc": thinned(*self.curve().roc())}


class PixelAP(PixelMetric):
    """Average precision of the map values."""

    def compute(self) -> float:
        return self.curve().average_precision()

    def curves(self) -> Points:
        return {"pixel_pr": thinned(*self.curve().precision_recall())}


class PixelF1Max(PixelMetric):
    """Best F1 of the map values over all thresholds: an oracle, because its threshold is chosen on the test set."""

    def compute(self) -> float:
        return self.curve().f1_max()[0]


class AUPRO(PixelMetric):
    """Area under the per-region-overlap curve up to a false-positive rate of 0.3, as MVTec AD, VisA and BTAD are judged."""

    fpr_limit = 0.3

    def compute(self) -> float:
        return self.curve().aupro(self.fpr_limit)

    def curves(self) -> Points:
        return {"pro": thinned(*self.curve().pro())}


class AUPRO005(AUPRO):
    """The same up to 0.05, as MVTec AD 2 is judged."""

    fpr_limit = 0.05


class _StreamedMetric(BaseMetric):
    """A metric of pixels that takes each part as it comes, and remembers why it has no value."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._undefined: UndefinedMetric | None = None

    def update(self, batch: Batch, prediction: Prediction) -> None:
        try:
            part = judged(batch, prediction)
        except UndefinedMetric as reason:
            self._undefined = reason
            return
        if part is not None:
            self._take(part)

    @abstractmethod
    def _take(self, part: Part) -> None:
        """Count the pixels of some images."""


class SegF1(_StreamedMetric):
    """:func:`~anomaly_metrics.seg_f1` at the run's map threshold, in constant memory."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._judged = False
        self._counts = (0, 0, 0)

    def _take(self, part: Part) -> None:
        if self.calibration is not None and self.calibration.map_threshold is not None:
            maps = part.counted(part.maps.detach()).float().numpy()
            require_finite(maps)
            new = segmented(maps, part.counted(part.masks).numpy() != 0, self.calibration.map_threshold)
            true, false, missed = (before + more for before, more in zip(self._counts, new, strict=True))
            self._counts, self._judged = (true, false, missed), True

    def compute(self) -> float:
        if self._undefined is not None:
            raise self._undefined
        if self.calibration is None or self.calibration.map_threshold is None:
            raise UndefinedMetric(
                "there is no map threshold: no normal image was left to set it (add some, or leave data.holdout out)"
            )
        if not self._judged:
            raise UndefinedMetric("the data set has no masks")
        return f1_of(self._counts)


class AUPIMO(_StreamedMetric):
    """Mean over the anomalous images of :func:`~anomaly_metrics.aupimo`, in constant memory an image.

    Only the highest pixels of the normal images decide; the 2**22 highest are kept, exact up to 4e10 pixels in all. Of an
    anomalous image's defective pixels 4096 evenly spaced ones are kept, which moves its value by at most 1 / 8192.
    Images that are labelled anomalous but whose mask is empty are left out: they are neither.
    """

    bounds = FPR_BOUNDS
    kept_normal = 1 << 22
    kept_defective = 1 << 12

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._size: tuple[int, ...] = ()
        self._normal = 0
        self._high: list[NDArray[np.float32]] = []
        self._floor = -np.inf
        self._defects: list[NDArray[np.float32]] = []

    def _take(self, part: Part) -> None:
        maps, masks, labels = part.maps.detach().float().numpy(), part.masks.numpy() != 0, part.labels.numpy()
        valid = None if part.valid is None else part.valid.numpy()
        masks = masks if valid is None else masks & valid
        require_finite(maps)
        if self._size and maps.shape[-2:] != self._size:
            self._undefined = UndefinedMetric(
                f"its false-positive rate needs maps of one size, and there are {_sides(self._size)} and "
                f"{_sides(maps.shape[-2:])} (data.evaluate_at=input makes them alike)"
            )
            return
        self._size = maps.shape[-2:]
        defective = masks.any(axis=(1, 2, 3))
        normal = (labels == NORMAL) & ~defective
        self._take_normal(maps[normal].ravel() if valid is None else maps[normal][valid[normal]])
        for image, mask in zip(maps[defective], masks[defective], strict=True):
            self._defects.append(evenly_spaced(np.sort(image[mask]), self.kept_defective))

    def compute(self) -> float:
        if self._undefined is not None:
            raise self._undefined
        if not self._size:
            raise UndefinedMetric("the data set has no masks")
        if not self._defects:
            raise UndefinedMetric("no mask marks an anomalous pixel")
        count = top_count(self._normal, self.bounds)
        if count > self.kept_normal:
            raise UndefinedMetric(
                f"the normal images have {self._normal} pixels, more than the {self.kept_normal} highest decide"
            )
        falling = highest(np.concatenate(self._high), count)
        return float(np.mean([aupimo_of_image(rising, falling, self._normal, self.bounds) for rising in self._defects]))

    def _take_normal(self, values: NDArray[np.float32]) -> None:
        self._normal += values.size
        self._high.append(values[values > self._floor])
        if sum(part.size for part in self._high) > 2 * self.kept_normal:
            self._high = [highest(np.concatenate(self._high), self.kept_normal)]
            self._floor = float(self._high[0][-1])


def _sides(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]}"


def thinned(x: NDArray[Any], y: NDArray[Any], count: int = DRAWN) -> tuple[list[float], list[float]]:
    """At most about ``count`` points of a curve: evenly spaced along it, where x and y together have moved as far."""
    if len(x) <= count:
        return x.tolist(), y.tolist()
    travelled = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))))
    wanted = np.linspace(0, travelled[-1], count)
    chosen = np.unique(np.searchsorted(travelled, wanted).clip(max=len(x) - 1))
    return x[chosen].tolist(), y[chosen].tolist()


def evenly_spaced(rising: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` of the values, each standing for as many; all where there are no more than that."""
    if rising.size <= count:
        return rising
    return rising[((np.arange(count) + 0.5) * rising.size / count).astype(np.intp)]
