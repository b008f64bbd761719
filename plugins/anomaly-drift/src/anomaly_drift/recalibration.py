"""A new threshold from recent images that nobody has labelled, some of which may be defective, for a person to accept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anomaly_core import Calibration, ConfigError, DataError, robust_deviations
from anomaly_drift.monitor import DEFECTS

_LEAST = 50  # images, however high the rate: their bulk must be known
_LEVELS = np.linspace(0.1, 0.65, 12)  # of the quantiles that two bulks are compared at
_ODD = 7.0  # robust deviations, twice what a suspect has: an old image beyond is none to measure the reach of normal ones by
_BEYOND = 3.5  # over the root of their number: what a normal image may lie beyond the reach of the old ones, as a share


@dataclass(frozen=True)
class Proposal:
    """A threshold that recent images propose.

    Attributes:
        calibration: to judge by from now on; None where it cannot be said.
        kept, left_out: the places, in the scores that were given, of the images that it rests on, and of those that stand out
            so far that they may be defects.
        missing: how many more images are needed; 0 unless too few were given.
        words: what is proposed and why, or why nothing is.
        warning: what should be looked at before it is accepted, or None.
    """

    calibration: Calibration | None
    kept: tuple[int, ...]
    left_out: tuple[int, ...]
    missing: int
    words: str
    warning: str | None = None


def recalibrated(
    calibration: Calibration,
    scores: Sequence[float],
    map_maxima: Sequence[float] | None = None,
    *,
    rate: float | None = None,
    defects: float = DEFECTS,
) -> Proposal:
    """A threshold from the scores of recent images, some of which may be defects.

    The bulk of the recent images (quantiles of 10 to 65 %, which defects hardly touch) is laid over that of the old normal
    images by a shift and a scale. What then lies well beyond the reach of the old normal images is left out, as it may be
    a defect; the threshold is the conformal one of the others. A defect among these makes it too high rather than too low. Too
    low it is where normal images are left out, by at most their share: somebody should look at what is left out.

    Args:
        calibration: the old threshold, with the scores behind it.
        scores: (n,), raw, by the same detector, of recent images in any order.
        map_maxima: (n,), the greatest value of each of their maps, for the threshold of the maps.
        rate: the share of normal images that may exceed it; None: the old one.
        defects: the greatest share of the recent images that may be defects.

    Raises:
        DataError: a score is not finite, or there are no old scores to compare with.
        ConfigError: a rate or a share that is none.
    """
    rate = calibration.false_alarm_rate if rate is None else rate
    if not 0 < rate < 1:
        raise ConfigError(f"rate={rate:g} is no share of false alarms: give one between 0 and 1, such as 0.01.")
    if not 0 <= defects < 0.5:
        raise ConfigError(f"defects={defects:g}: give the greatest share of defects among the images, below 0.5.")
    new, maxima = _finite(scores, "scores"), None if map_maxima is None else _finite(map_maxima, "map_maxima")
    if maxima is not None and len(maxima) != len(new):
        raise DataError(f"there are {len(new)} scores and {len(maxima)} map_maxima. Give one of each for an image.")
    old = np.asarray(calibration.scores)
    if calibration.threshold is None or len(old) < 2:
        raise DataError(
            "the detector has no threshold that rests on scores of normal images, and so nothing tells defects from normal "
            "images. Set it by good images: `anomaly threshold RUN --from DIR`."
        )
    needed = max(calibration.images_for(rate), _LEAST)
    if len(new) < needed:
        return _too_few(needed - len(new), len(new), needed, rate)
    middle, shift, scale = _laid_over(old, new)
    reach = max(score for score, odd in zip(old, robust_deviations(old.tolist()), strict=True) if odd <= _ODD)
    cut = shift + scale * (1 + _BEYOND / len(old) ** 0.5) * (reach - middle)
    is_kept = new <= cut
    kept, left_out = (tuple(np.flatnonzero(part).tolist()) for part in (is_kept, ~is_kept))
    most = defects * len(new) + 2 * math.sqrt(defects * (1 - defects) * len(new))  # of defects so likely, in 98 of 100 draws
    if len(left_out) > most:
        words = (
            f"no threshold is proposed: {len(left_out)} of the {len(new)} images stand out from the others, more than the "
            f"{100 * defects:.2g} % that may be defects, and than chance adds to them. The images are of several kinds, or of "
            "another kind than the old ones. Sort good ones by hand and set the threshold by them, or teach the product anew."
        )
        return Proposal(None, kept, left_out, 0, words)
    if len(kept) < needed:
        return _too_few(needed - len(kept), len(kept), needed, rate, kept, left_out)
    return _proposal(calibration, new, maxima, kept, left_out, rate, most)


def _proposal(
    calibration: Calibration,
    new: NDArray[np.float64],
    maxima: NDArray[np.float64] | None,
    kept: tuple[int, ...],
    left_out: tuple[int, ...],
    rate: float,
    most: float,
) -> Proposal:
    chosen = list(kept)
    peaks = () if maxima is None else tuple(np.sort(maxima[chosen]).tolist())
    sorted_scores = tuple(np.sort(new[chosen]).tolist())
    source = f"{len(kept)} recent images that nobody labelled ({len(left_out)} that stand out left out)"
    proposed = replace(
        calibration, count=len(kept), scores=sorted_scores, map_maxima=peaks, scored_by="holdout", interval=None
    ).at_rate(rate)
    warnings = []
    if calibration.map_threshold is not None and maxima is None:
        warnings.append("the threshold of the maps stays the old one, as no maxima of the maps were given: look at the regions")
        proposed = replace(proposed, map_threshold=calibration.map_threshold)
    if left_out:
        everything = replace(proposed, count=len(new), scores=tuple(np.sort(new).tolist()), map_maxima=()).at_rate(rate)
        warnings.append(
            f"look at the {len(left_out)} images that were left out: if they are fine, the threshold is too low, and ought to "
            f"be {everything.threshold:.4g}"
        )
    old, now = calibration.threshold, proposed.threshold
    assert old is not None and now is not None
    before, after = (int((new[chosen] > value).sum()) for value in (old, now))
    if before - after > most:
        warnings.append(
            f"{before - after} of these {len(new)} images are anomalous by the old threshold and would be normal: "
            "look at them, as the new one holds only if nearly all of them are good"
        )
    warning = "; ".join(warnings) or None
    proposed = replace(proposed, source=source, warning=proposed.warning or warning)
    words = (
        f"a threshold of {now:.4g} instead of {old:.4g}, from {source}: of the images that it rests on, {after} of {len(kept)} "
        f"exceed it, and {before} the old one"
    )
    return Proposal(proposed, kept, left_out, 0, words, warning)


def _laid_over(old: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[float, float, float]:
    """(m, a, b): a + b (x - m) brings a score x of the old bulk to where it lies in the new one."""
    before, now = np.quantile(old, _LEVELS), np.quantile(new, _LEVELS)
    middle, shift = float(np.median(old)), float(np.median(new))
    spread = before - middle
    energy = float(spread @ spread)
    scale = float(spread @ (now - shift)) / energy if energy > 0 else 1.0
    return middle, shift, max(scale, 0.0)


def _too_few(
    missing: int, there: int, needed: int, rate: float, kept: tuple[int, ...] = (), left_out: tuple[int, ...] = ()
) -> Proposal:
    words = (
        f"no threshold is proposed yet: {missing} more images are needed, for a rate of {rate:g} takes {needed} that are not "
        f"left out, and there are {there}"
    )
    return Proposal(None, kept, left_out, missing, words)


def _finite(values: Sequence[float], what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise DataError(
            f"{what}: {int((~np.isfinite(array)).sum())} values are NaN or infinite. Leave out images without a verdict."
        )
    return array
