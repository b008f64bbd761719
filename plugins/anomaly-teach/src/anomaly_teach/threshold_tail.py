"""The tail of normal images' scores: thresholds for false-alarm rates that their number alone cannot show.

A generalised Pareto distribution is fitted to the exceedances of the upper scores by maximum likelihood; intervals are those of
the profile likelihood, in which the share of the scores that exceed counts as estimated, too. Sources: Pickands, Annals of
Statistics, 1975; Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anomaly_core import ConfigError

Array = NDArray[np.float64]
SHARE, FEWEST = 0.1, 20  # the upper tenth of the scores, and at least so many
FURTHEST = 0.25  # beyond the upper quarter, the shape is that of the bulk
SHAPES = (-0.5, 1.5)  # below -0.5 the likelihood is not regular; above 1 the tail has no mean
LEVEL = 3.841 / 2  # half the 95 % quantile of chi-squared with one degree of freedom
LEAST_IMAGES = math.ceil(FEWEST / FURTHEST)
MOST_IMAGES = 1e9  # a rate below one in so many is none


@dataclass(frozen=True)
class TailThreshold:
    """A threshold from the fitted tail.

    Attributes:
        value, value_interval: the threshold, and the 95 % interval of the one for the rate that was asked for.
        rate, rate_interval: the false-alarm rate at the threshold, and its 95 % interval.
    """

    value: float
    value_interval: tuple[float, float]
    rate: float
    rate_interval: tuple[float, float]


class Tail:
    """The upper tail of N scores.

    Args:
        scores: of normal images that the detector did not see.

    Attributes:
        start: the score above which the tail begins.
        exceedances: (n,), by how much the scores above it exceed it.
        shape, scale: of the generalised Pareto distribution, by maximum likelihood.

    Raises:
        ConfigError: there are too few scores, or they are all alike.
    """

    def __init__(self, scores: Sequence[float]) -> None:
        from scipy import stats

        ordered = np.sort(np.asarray(scores, dtype=np.float64))
        self.count = len(ordered)
        above = max(FEWEST, round(SHARE * self.count))
        if above > FURTHEST * self.count:
            raise ConfigError(
                f"--tail fits a curve to the {FEWEST} highest scores or more, which must be the upper quarter at most: that "
                f"needs {LEAST_IMAGES} normal images, and there are {self.count}. Add normal images, or leave "
                "--tail out."
            )
        self.start = float(ordered[-above - 1])
        self.exceedances: Array = ordered[-above:] - self.start
        if not self.exceedances.min() > 0 or len(np.unique(self.exceedances)) < above / 2:
            raise ConfigError(
                f"--tail fits a curve to the {above} highest scores, and too many of them are equal: scores of few values "
                "have no such curve. Leave --tail out."
            )
        ratio = float(self.exceedances.mean() ** 2 / self.exceedances.var())
        begin = max(float(self.exceedances.max()), float(self.exceedances.mean()) * (ratio + 1) / 2)  # possible at any shape
        shape, _, scale = stats.genpareto.fit(self.exceedances, max((1 - ratio) / 2, SHAPES[0]), floc=0, scale=begin)
        if not SHAPES[0] <= shape <= SHAPES[1]:
            shape = float(np.clip(shape, *SHAPES))
            _, _, scale = stats.genpareto.fit(self.exceedances, f0=shape, floc=0, scale=begin)
        self.shape, self.scale = float(shape), float(scale)

    def threshold(self, rate: float) -> TailThreshold:
        """The threshold that a share ``rate`` of new normal images exceeds; ConfigError if the tail begins above it.

        It is never below the greatest score: that one stands for 1/(N + 1), and fewer alarms need a threshold as high.
        """
        from scipy import stats

        share = len(self.exceedances) / self.count
        if rate >= share:
            raise ConfigError(
                f"--tail begins at the upper {share:.2g} of the scores, and --false-alarm-rate {rate:g} lies below: leave "
                "--tail out."
            )
        fitted = float(stats.genpareto.isf(rate / share, self.shape, scale=self.scale))
        beyond = max(fitted, float(self.exceedances.max()))
        reached = share * float(stats.genpareto.sf(beyond, self.shape, scale=self.scale))
        found = math.log10(max(reached, 2 / MOST_IMAGES))
        least, most = -math.log10(MOST_IMAGES), math.log10(2 * share)
        rates = np.concatenate([np.logspace(least, found, 200), np.logspace(found, most, 200)])
        # the values at which the fitted curve has these rates, and further out, where a heavier tail may lead
        beyonds = np.concatenate([np.linspace(0, beyond, 200), beyond * np.logspace(0, 3, 200)[1:]])
        low, high = _interval(rates, np.array([self._profile(beyond, one) for one in rates]))
        lowest, highest = _interval(beyonds, np.array([self._profile(one, rate) for one in beyonds]))
        return TailThreshold(
            self.start + beyond,
            (self.start + lowest, self.start + highest),
            min(max(reached, 1 / MOST_IMAGES), rate),
            (0.0 if low <= 1 / MOST_IMAGES else low, min(high, 1.0)),
        )

    def _profile(self, beyond: float, rate: float) -> float:
        """The greatest log-likelihood of all curves whose share above ``start + beyond`` is ``rate``."""
        shapes, scales, likelihood = self._grid
        share = rate / _survival(beyond, shapes, scales)  # of scores above the start
        possible = share < 1
        if not possible.any():
            return -math.inf
        share, n = share[possible], len(self.exceedances)
        return float((likelihood[possible] + n * np.log(share) + (self.count - n) * np.log1p(-share)).max())

    @cached_property
    def _grid(self) -> tuple[Array, Array, Array]:
        """(shapes, scales, log-likelihoods), each (G,): of curves around the fitted one."""
        shapes = np.repeat(np.linspace(*SHAPES, 81), 61)
        scales = np.tile(self.scale * np.logspace(-0.7, 0.7, 61), 81)
        inner = 1 + np.outer(shapes / scales, self.exceedances)  # (G, n)
        with np.errstate(invalid="ignore", divide="ignore"):
            bent = -(1 + 1 / shapes) * np.log(inner).sum(axis=1)
        straight = -self.exceedances.sum() / scales
        likelihood = np.where(abs(shapes) < 1e-9, straight, bent) - len(self.exceedances) * np.log(scales)
        possible = (inner > 0).all(axis=1)
        return shapes[possible], scales[possible], likelihood[possible]


def _survival(beyond: float, shapes: Array, scales: Array) -> Array:
    """The share of exceedances above ``beyond``; at least the smallest number above 0."""
    inner = np.maximum(1 + shapes * beyond / scales, 0)
    with np.errstate(divide="ignore", over="ignore"):
        bent = np.where(abs(shapes) < 1e-9, np.exp(-beyond / scales), inner ** (-1 / np.where(shapes == 0, 1, shapes)))
    return np.maximum(bent, np.finfo(np.float64).tiny)


def _interval(values: Array, likelihoods: Array) -> tuple[float, float]:
    """The values whose profile likelihood is within the level of the best."""
    inside = values[likelihoods >= likelihoods.max() - LEVEL]
    return float(inside[0]), float(inside[-1])
