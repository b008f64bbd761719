"""PixelStore: the pixels of a category, stored once for all metrics that use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_core import AnomalyError, Batch, Prediction, UndefinedMetric
from anomaly_metrics.curves import Curve, curve
from anomaly_metrics.histogram import ScoreHistogram
from anomaly_metrics.regions import region_shares

# Up to here a category is judged exactly: 168 MB of maps and masks, or 668 images of 224 x 224.
EXACT_PIXELS = 1 << 25
# Pixels that are counted at once beyond it.
CHUNK = 1 << 22


class Part(NamedTuple):
    """Maps float32 and masks bool (B, 1, H, W), labels (B,), and the pixels that count, bool (B, 1, H, W) or None: all do."""

    maps: Tensor
    masks: Tensor
    labels: Tensor
    valid: Tensor | None

    def counted(self, values: Tensor) -> Tensor:
        """Those of (B, 1, H, W) values that count: (N,)."""
        return values.flatten() if self.valid is None else values[self.valid]

    def split(self, images: int) -> list[Part]:
        """Parts of at most so many images."""
        parts = [self.maps.split(images), self.masks.split(images), self.labels.split(images)]
        valid = [None] * len(parts[0]) if self.valid is None else self.valid.split(images)
        return [Part(*part) for part in zip(*parts, valid, strict=True)]


def judged(batch: Batch, prediction: Prediction) -> Part | None:
    """The input of a pixel metric; None without masks.

    Anomalous images without a mask are left out, because the labels of their pixels are unknown.

    Raises:
        UndefinedMetric: there are no maps.
        AnomalyError: maps and masks differ in shape.
    """
    if prediction.maps is None:
        raise UndefinedMetric("the method makes no anomaly maps")
    if batch.masks is None:
        return None
    if prediction.maps.shape != batch.masks.shape:
        raise AnomalyError(
            f"anomaly maps of shape {tuple(prediction.maps.shape)} against masks of {tuple(batch.masks.shape)}: "
            "predict_step must return maps (B, 1, H, W) at the size of its input."
        )
    has = batch.has_mask
    parts = prediction.maps, batch.masks, batch.labels, batch.valid
    return Part(*parts) if has.all() else Part(*(part if part is None else part[has] for part in parts))  # type: ignore[arg-type]


class PixelStore:
    """Any number of pixels: exact up to a limit, beyond it in a histogram of constant size.

    Several metrics may share a store if all receive the same batches in the same order. Each passes the number of batches that
    it received before, so that a batch is added only once.

    Args:
        exact_pixels: the limit; at most so many pixels are held, by reference, and the curve over them is exact.
    """

    def __init__(self, exact_pixels: int = EXACT_PIXELS) -> None:
        self.exact_pixels = exact_pixels
        self._taken = 0
        self._last: Prediction | None = None
        self._undefined: UndefinedMetric | None = None
        self._parts: list[Part] = []
        self._pixels = 0
        self._histogram: ScoreHistogram | None = None
        self._curve: Curve | None = None

    @property
    def is_exact(self) -> bool:
        """Whether all pixels are still stored unchanged."""
        return self._histogram is None

    def take(self, turn: int, batch: Batch, prediction: Prediction) -> None:
        """Add the batch that a metric receives after `turn` others; does nothing if another metric has already added it."""
        if turn == self._taken - 1 and prediction is self._last:
            return
        if turn != self._taken:
            raise AnomalyError(_OUT_OF_STEP)
        self._taken, self._last, self._curve = turn + 1, prediction, None
        try:
            part = judged(batch, prediction)
        except UndefinedMetric as reason:
            self._undefined = reason
            return
        if part is not None:
            self._parts += part.split(max(1, CHUNK // max(1, part.maps[:1].numel())))
            self._pixels += part.maps.numel()
            if self._pixels > (self.exact_pixels if self._histogram is None else CHUNK):
                self._histogram = self._histogram or ScoreHistogram()
                self._count(self._histogram)

    def curve(self, turn: int) -> Curve:
        """The curve over all pixels, for a metric that was fed `turn` batches.

        Raises:
            UndefinedMetric: no maps, no masks, or pixels of one class only.
        """
        if turn != self._taken:
            raise AnomalyError(_OUT_OF_STEP)
        if self._undefined is not None:
            raise self._undefined
        if self._curve is None:
            self._curve = self._exact_curve() if self._histogram is None else self._binned_curve(self._histogram)
        return self._curve

    def _exact_curve(self) -> Curve:
        if not self._parts:
            raise UndefinedMetric("the data set has no masks")
        scores, anomalous, shares, regions = _joined(self._parts)
        if not regions:
            raise UndefinedMetric("no mask marks an anomalous pixel")
        return curve(scores, anomalous, shares / regions)

    def _binned_curve(self, histogram: ScoreHistogram) -> Curve:
        self._count(histogram)
        return histogram.curve()

    def _count(self, histogram: ScoreHistogram) -> None:
        for group in _groups(self._parts):
            histogram.add(*_joined(group))
        self._parts, self._pixels = [], 0


def _groups(parts: list[Part]) -> Iterator[list[Part]]:
    """Consecutive parts of about a chunk together: many small batches would be slow one by one."""
    group: list[Part] = []
    for part in parts:
        group.append(part)
        if sum(one.maps.numel() for one in group) >= CHUNK:
            yield group
            group = []
    if group:
        yield group


def _joined(parts: list[Part]) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64], int]:
    """Of what counts: (scores (N,), anomalous (N,), each anomalous pixel's share of its region, number of regions)."""
    scores = torch.cat([part.counted(part.maps.detach()) for part in parts]).float().numpy()
    anomalous = torch.cat([part.counted(part.masks) for part in parts]).numpy() != 0
    regions = [region_shares(_inside(part)[:, 0].numpy() != 0) for part in parts]
    return scores, anomalous, np.concatenate([shares for shares, _ in regions]), sum(count for _, count in regions)


def _inside(part: Part) -> Tensor:
    """The masks; a defect ends where pixels do not count."""
    return part.masks if part.valid is None else part.masks & part.valid


_OUT_OF_STEP = (
    "pixel metrics that share their work were fed different batches. Feed every batch to each of them before the next one, "
    "or do not call share()."
)
