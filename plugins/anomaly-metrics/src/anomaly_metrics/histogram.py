"""ScoreHistogram: pixel scores of any range and any number in constant memory."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import UndefinedMetric
from anomaly_metrics.arrays import require_both_classes, require_finite
from anomaly_metrics.curves import Curve

# A cell is what shares the upper 16 bits of a float32: sign, exponent and 7 bits of the mantissa, 65536 adjacent numbers.
CELLS, CELL_BITS = 1 << 16, 16
# Each cell has at least 2**3 bins.
LEAST = 3
# A bin is to hold at most 2**-FINENESS of either class.
FINENESS = 18
# 28 bytes each: no more than 120 MB. Only scores whose range keeps wandering come near it.
MAX_BINS = 1 << 22
# Pixels that are worked on at once: few enough for the processor's cache.
BLOCK = 1 << 15
# Pixels of a chunk that suffice to see where normal scores are dense.
SAMPLE = 1 << 18
# One in so many, the highest, are all looked at: a few normal pixels at the very top decide on precision.
TOP = 1000
# The key of a NaN: no score has it.
NONE = np.uint32(0)


class ScoreHistogram:
    """Counts of float32 scores in bins of adjacent numbers, many where scores are dense and few where they are rare.

    The bits of a float32, read as an integer, have the same order as the numbers, so bins need no range. The upper 16 bits are
    a score's cell. A cell has 2**k bins, with k from 3 (ten bits of the mantissa) to 16 (one bin per number). If its scores
    were evenly spread, no bin would hold more than 2**-18 of the normal or of the anomalous pixels seen so far.
    Before a chunk is counted, the cells that it makes dense are divided. The earlier counts of a divided bin stay together, at
    a score noted there. That is exact if its scores are equal; otherwise the count is small, as the bin was not dense before.

    Scores in the same bin count as tied, which changes the AUROC by at most half of the largest share of a bin.
    """

    def __init__(self) -> None:
        self._divided = np.full(CELLS, LEAST, dtype=np.int64)  # (CELLS,): cell c has 2**divided[c] bins
        bins = CELLS << LEAST
        self._normal, self._anomalous, self._overlap = (np.zeros(bins) for _ in range(3))  # (bins,), the last weighs by region
        self._noted = np.full(bins, NONE)  # (bins,): the key of a score in it, or NONE
        self._normal_in_cell, self._anomalous_in_cell = np.zeros(CELLS), np.zeros(CELLS)  # (CELLS,), the first estimated
        self._regions = 0
        self._lay_out()

    @property
    def bins(self) -> int:
        """How many bins there are now."""
        return self._normal.size

    def add(self, scores: NDArray[np.float32], anomalous: NDArray[np.bool_], shares: NDArray[np.float64], regions: int) -> None:
        """Count a chunk; a few million pixels at a time are fastest.

        Args:
            scores: float32 (N,).
            anomalous: bool (N,).
            shares: float64, for each anomalous pixel 1 / size of its region.
            regions: how many regions the chunk has.

        Raises:
            AnomalyError: a score is NaN or infinite.
        """
        require_finite(scores)
        self._regions += regions
        looked_at, weights = _sample(scores, anomalous)
        normal, defective = _keys(scores[looked_at]), _keys(scores[anomalous])
        self._refine(normal, weights, defective)
        bins = self._bins_of(scores)
        self._normal += np.bincount(bins, minlength=self.bins)
        self._note(bins[looked_at], normal)
        if shares.size:
            defective_bins = bins[anomalous]
            np.subtract.at(self._normal, defective_bins, 1.0)
            np.add.at(self._anomalous, defective_bins, 1.0)
            np.add.at(self._overlap, defective_bins, shares)
            self._note(defective_bins, defective)

    def curve(self) -> Curve:
        """The curve with the lower ends of the bins as thresholds; UndefinedMetric if one class is missing."""
        normal, anomalous = round(self._normal.sum()), round(self._anomalous.sum())
        if not anomalous:
            raise UndefinedMetric("no mask marks an anomalous pixel")
        require_both_classes(normal, anomalous)
        at = np.flatnonzero(self._anomalous)
        true, false, overlap = (_from_the_top(counts)[at] for counts in (self._anomalous, self._normal, self._overlap))
        return Curve(_scores(self._lower_ends(at)), true, false, self._normal[at], normal, overlap / self._regions)

    def _refine(self, normal: NDArray[np.uint32], weights: NDArray[np.int64], anomalous: NDArray[np.uint32]) -> None:
        """Divide the cells in which this chunk makes a bin too heavy; a normal key stands for as many pixels as it weighs."""
        self._normal_in_cell += np.bincount(normal >> CELL_BITS, weights, minlength=CELLS)
        self._anomalous_in_cell += np.bincount(anomalous >> CELL_BITS, minlength=CELLS)
        heaviness = np.ones(CELLS)
        for counts in (self._normal_in_cell, self._anomalous_in_cell):
            heaviness = np.maximum(heaviness, counts / max(counts.sum(), 1) * 2**FINENESS)
        needed = np.ceil(np.log2(heaviness)).astype(np.int64).clip(LEAST, CELL_BITS)
        # One division more than needed, so that a cell which grows slowly is not divided again and again.
        divided = np.where(needed > self._divided, np.minimum(needed + 1, CELL_BITS), self._divided)
        bins = int((1 << divided).sum())
        if bins > MAX_BINS:
            # Its text is always the same: Python and a run's log show it once.
            warnings.warn(
                "the pixel scores wander over too many magnitudes for finer bins: pixel metrics become approximate. "
                "See why the raw scores differ so from image to image.",
                stacklevel=2,
            )
        elif bins > self.bins:
            self._divide(divided, bins)

    def _divide(self, divided: NDArray[np.int64], bins: int) -> None:
        into = np.repeat(1 << (divided - self._divided), 1 << self._divided)  # (bins,): how many each bin becomes
        noted = np.flatnonzero(self._noted != NONE)
        keys = self._noted[noted]
        self._divided = divided
        self._lay_out()
        where = self._bins_of_keys(keys)
        self._noted = np.full(bins, NONE)
        self._noted[where] = keys
        self._normal, self._anomalous, self._overlap = (
            _spread(counts, into, noted, where) for counts in (self._normal, self._anomalous, self._overlap)
        )

    def _note(self, bins: NDArray[Any], keys: NDArray[np.uint32]) -> None:
        """Store one score of each bin."""
        free = self._noted[bins] == NONE
        self._noted[bins[free]] = keys[free]

    def _lay_out(self) -> None:
        """Tables by cell that take a key to its bin: ``(key >> shift) + offset``."""
        counts = 1 << self._divided
        self._first = np.cumsum(counts) - counts
        self._shift = (CELL_BITS - self._divided).astype(np.uint32)
        start = (np.arange(CELLS, dtype=np.int64) << CELL_BITS) >> self._shift
        # Negative offsets wrap around, and so does the sum.
        self._offset = (self._first - start).astype(np.uint32)

    def _bins_of(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        bins = np.empty(scores.size, dtype=np.int64)
        for start in range(0, scores.size, BLOCK):
            bins[start : start + BLOCK] = self._bins_of_keys(_keys(scores[start : start + BLOCK]))
        return bins

    def _bins_of_keys(self, keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
        cells = (keys >> CELL_BITS).astype(np.intp)
        bins: NDArray[np.uint32] = (keys >> self._shift.take(cells)) + self._offset.take(cells)
        return bins

    def _lower_ends(self, bins: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The lowest key of each bin."""
        cells = np.searchsorted(self._first, bins, side="right") - 1
        keys: NDArray[np.int64] = (cells << CELL_BITS) + ((bins - self._first[cells]) << self._shift[cells])
        return keys.astype(np.uint32)


def _sample(scores: NDArray[np.float32], anomalous: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(positions, weights) of normal scores that stand for all: evenly spaced ones, and each of the highest."""
    step = scores.size // SAMPLE | 1  # odd, to walk through all columns of an image
    spaced = np.arange(0, scores.size, step)
    spaced = spaced[~anomalous[spaced]]
    if not spaced.size:
        return spaced, spaced
    values = scores[spaced]
    rank = values.size // TOP + 1
    floor = np.partition(values, values.size - rank)[values.size - rank]
    highest = np.flatnonzero((scores > floor) & ~anomalous)
    spaced = spaced[values <= floor]
    return np.append(spaced, highest), np.repeat((step, 1), (spaced.size, highest.size))


def _keys(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """uint32 in the order of the scores: negative ones with all bits flipped, the others with the sign bit set."""
    bits = (scores + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0: the two are equal and must tie
    flip = (bits >> 31) | np.int32(-(2**31))
    keys: NDArray[np.uint32] = (bits ^ flip).view(np.uint32)
    return keys


def _scores(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The inverse of `_keys`."""
    flip = np.where(keys >> 31, np.uint32(1 << 31), np.uint32(2**32 - 1))
    scores: NDArray[np.float32] = (keys ^ flip).view(np.float32)
    return scores


def _spread(
    counts: NDArray[np.float64], into: NDArray[np.int64], noted: NDArray[np.int64], where: NDArray[np.uint32]
) -> NDArray[np.float64]:
    """The counts after dividing bins: all to the new bin that contains the noted score, else split equally."""
    kept = counts[noted]
    counts = counts.copy()
    counts[noted] = 0
    # A power of two, so that repeated division stays exact.
    spread: NDArray[np.float64] = np.repeat(counts / into, into)
    spread[where] += kept
    return spread


def _from_the_top(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cumsum(counts[::-1])[::-1]
