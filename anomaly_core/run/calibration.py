"""Calibration: a threshold, and the colour scale of the maps, from the scores of held-out normal images."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left, bisect_right
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from anomaly_core.errors import AnomalyError, ConfigError
from anomaly_core.run.records import Count, Finite

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["holdout", "folds", "leave_one_out"]
Rate = Annotated[float, Field(strict=True, ge=0, le=1)]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A threshold that does not depend on the test set.

    Attributes:
        threshold: raw image score above which an image is called anomalous; None without scores of unseen normal images.
        false_alarm_rate: the share of normal images that may exceed it: asked for, or estimated for one that was set otherwise.
        count, source: the number of normal images with scores, and the origin of the threshold, in words.
        map_low, map_threshold: the map value of typical normal pixels, and the bound that normal images' maxima stay below.
        warning: what the threshold cannot guarantee, with a next step on the command line, or None.
        scores, map_maxima: scores of normal images by detectors that did not see them, and the maxima of their maps, sorted.
        scored_by: how the scores came about: images held out of fitting, or cross-fitting by folds or by leaving one out.
        chosen_by: what the threshold was chosen by: a ``rate`` of false alarms, a fitted ``tail``, ``costs``, or a ``value``.
        interval: of the true false-alarm rate, with 95 % confidence, where what chose the threshold states one.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    threshold: Finite | None
    false_alarm_rate: Annotated[float, Field(strict=True, gt=0, lt=1)]
    count: Count
    source: str
    map_low: Finite | None = None
    map_threshold: Finite | None = None
    warning: str | None = None
    scores: tuple[Finite, ...] = ()
    map_maxima: tuple[Finite, ...] = ()
    scored_by: Kind = "holdout"
    chosen_by: Literal["rate", "tail", "costs", "value"] = "rate"
    interval: tuple[Rate, Rate] | None = None

    def is_anomalous(self, score: float) -> bool | None:
        """The verdict on a raw score; None without a threshold, and for NaN and infinity."""
        return score > self.threshold if self.threshold is not None and math.isfinite(score) else None

    def p_value(self, score: float) -> float:
        """Split-conformal p-value: the share of normal images with at least this score; 1 without held-out images."""
        return _p_value(self.scores, score)

    def map_p_value(self, peak: float) -> float | None:
        """The share of normal images with at least this map value somewhere, as :meth:`p_value`; None without their maps."""
        return _p_value(self.map_maxima, peak) if self.map_maxima else None

    def false_alarm_interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The interval of the threshold's true false-alarm rate; None without a threshold.

        The share of new scores above the k-th smallest of N has the distribution Beta(N + 1 - k, k), for any distribution of
        the scores; with ties it is smaller. Source: David and Nagaraja, Order Statistics, 2003, 2.3. For a threshold that no
        rank of the scores chose: :attr:`interval`, else that of Clopper and Pearson, Biometrika, 1934, from those above it.
        """
        if self.threshold is None or not self.count:
            return None
        if self.interval is not None and level == 0.95:
            return self.interval
        from scipy.special import betaincinv  # scipy.stats takes ten times as long to import

        rank = _rank(self.count, self.false_alarm_rate)
        if self.chosen_by != "rate":
            if not self.scores:
                return None
            above, error = self.above(self.threshold), (1 - level) / 2
            low = betaincinv(above, self.count + 1 - above, error) if above else 0.0
            high = betaincinv(above + 1, self.count - above, 1 - error) if above < self.count else 1.0
        else:
            low, high = betaincinv(self.count + 1 - rank, rank, ((1 - level) / 2, (1 + level) / 2))
        return float(low), float(high)

    def promise(self) -> str:
        """The false-alarm rate, asked for or estimated, and its confidence interval, in words; empty without a threshold."""
        interval = self.false_alarm_interval()
        if interval is None:
            return ""
        low, high = (f"{float(f'{100 * rate:.2g}'):g}" for rate in interval)
        rate = f"{100 * self.false_alarm_rate:.3g} %"
        words = {"rate": f"{rate} asked for", "tail": f"about {rate}, an extrapolation beyond the {self.count} images"}
        return f"false alarms: {words.get(self.chosen_by, f'about {rate}')}, {low} to {high} % with 95 % confidence"

    def above(self, score: float) -> int:
        """How many of the normal images score above ``score``."""
        return len(self.scores) - bisect_right(self.scores, score)

    def with_threshold(self, value: float, source: str = "a value set by hand", **changes: Any) -> Calibration:
        """A copy with another threshold, by default one chosen as a value, and the map threshold of the same rank.

        The false-alarm rate is Laplace's estimate from the scores above it, (above + 1) / (N + 2): never 0, as none of N images
        shows that there are none. ``changes`` are further attributes. ConfigError if the value is NaN or infinite.
        """
        if not math.isfinite(value):
            raise ConfigError(f"the threshold {value} separates nothing. Give a finite number.")
        above, count = self.above(value), len(self.scores)
        new: dict[str, Any] = {"chosen_by": "value", "source": source, "interval": None, "warning": None}
        if count:
            new["false_alarm_rate"] = (above + 1) / (count + 2)
        if self.map_maxima and above < count:
            new["map_threshold"] = self.map_maxima[count - above - 1]
        return dataclasses.replace(self, threshold=float(value), **{**new, **changes})

    def at_rate(self, rate: float) -> Calibration:
        """A copy with the conformal threshold for a false-alarm rate, the ceil((N+1)(1-rate))-th smallest of N scores, and the
        map threshold of the same rank. With too few images for the rate it is the greatest, and ``warning`` says so."""
        count = len(self.scores)
        source = self.source if self.chosen_by == "rate" else _images(count, self.scored_by) + _SCORED[self.scored_by]
        rank = _rank(count, rate)
        maximum = {"map_threshold": self.map_maxima[rank - 1]} if self.map_maxima else {}
        chosen = self.with_threshold(self.scores[rank - 1], source, chosen_by="rate", false_alarm_rate=rate, **maximum)
        shortfall = chosen.shortfall()
        if not shortfall:
            return chosen
        hold_out_more = "raise data.holdout, " * (self.scored_by == "holdout")
        warning = f"{shortfall}: {hold_out_more}add normal images, or raise base.false_alarm_rate."
        return dataclasses.replace(chosen, warning=warning)

    @staticmethod
    def images_for(rate: float) -> int:
        """How many normal images a false-alarm rate needs: the smallest N with a score of rank ceil((N+1)(1-rate))."""
        return math.ceil(1 / _exact(rate)) - 1

    def shortfall(self) -> str:
        """That the normal images are too few for the rate that chose the threshold, and how many it needs, in words; else
        empty. There is no next step in it: whoever says it adds one that the reader can take."""
        count, rate = len(self.scores), self.false_alarm_rate
        if self.threshold is None or self.chosen_by != "rate" or not 0 < count < self.images_for(rate):
            return ""
        return (
            f"{_images(count, self.scored_by)} cannot support a false-alarm rate of {rate:g}: the threshold is their greatest "
            f"score, good for about {1 / (count + 1):.2g}. That rate needs {self.images_for(rate)} images"
        )

    def operating_point(self) -> str:
        """The threshold in words, by the false alarms that it is for: ``at a threshold for 1 false alarm in 100``; or empty."""
        if self.threshold is None:
            return ""
        if self.chosen_by == "rate":
            least = 1 / (self.count + 1)  # what the greatest of the scores is good for
            short = least > self.false_alarm_rate
            asked = f" ({_odds(self.false_alarm_rate)} was asked for)" if short else ""
            return f"at a threshold for {'about ' * short}{_odds(max(least, self.false_alarm_rate))}{asked}"
        how = {"tail": "from a fitted tail", "costs": "chosen by costs", "value": "that was given"}[self.chosen_by]
        return f"at a threshold {how}, for about {_odds(self.false_alarm_rate)}"

    def to_dict(self) -> dict[str, Any]:
        """A dict for JSON, which :meth:`from_dict` reads without loss."""
        return {**dataclasses.asdict(self), "scores": list(self.scores), "map_maxima": list(self.map_maxima)}

    @classmethod
    def from_dict(cls, values: Any) -> Calibration:
        """The calibration from a dict of :meth:`to_dict`; ValueError if a value is missing, unknown or not possible."""
        calibration = TypeAdapter(cls).validate_python(values)
        scores, maxima = calibration.scores, calibration.map_maxima
        for name, values, count in (("scores", scores, calibration.count), ("map_maxima", maxima, len(maxima) and len(scores))):
            if len(values) != count or any(low > high for low, high in pairwise(values)):
                raise ValueError(f"{name}: expected {count} of them, sorted")
        if scores and calibration.threshold is None:
            raise ValueError("threshold: there is none, although there are held-out scores")
        return calibration


def calibrate(
    scores: Tensor,
    map_maxima: Tensor | None = None,
    map_medians: Tensor | None = None,
    *,
    false_alarm_rate: float,
    kind: Kind = "holdout",
) -> Calibration:
    """The conformal threshold of N normal images that the detector did not see (:meth:`Calibration.at_rate`).

    Args:
        scores: float (N,), raw image scores.
        map_maxima, map_medians: float (N,), the maximum and median of each image's map; None if there are no maps.
        false_alarm_rate: share in (0, 1) of normal images that may exceed the threshold.
        kind: how the scores came about.

    Raises:
        AnomalyError: a score or a map is NaN or infinite.

    Source: Vovk et al., Algorithmic Learning in a Random World, 2005. If normal images are exchangeable with the held-out
    ones, they exceed the threshold with a probability of at most the rate. For cross-fitting, Barber et al., Predictive
    inference with the jackknife+, Annals of Statistics 2021: at most twice the rate (and a little more for folds), for scores
    by the detectors that lack an image or a fold. Of a memory, the detector of all images gives a new image no greater score
    than those, as far as its coreset allows: each image that is added can only bring a nearest neighbour closer.
    """
    count = len(scores)
    if count == 0:
        missing = "was held out (add some; data.holdout above 0)" if kind == "holdout" else "could be left out (add some)"
        return Calibration(None, false_alarm_rate, 0, f"none: no normal image {missing}", scored_by=kind)
    for what, values in (("scores", scores), ("maps", map_maxima), ("maps", map_medians)):
        damaged = 0 if values is None else int((~values.isfinite()).sum())
        if damaged:
            raise AnomalyError(
                f"the {what} of {damaged} of {count} {'held-out ' * (kind == 'holdout')}normal images are NaN or infinite: "
                "no threshold can rest on them. The model did not fit; look at its losses, or lower the learning rate."
            )
    return Calibration(
        threshold=None,
        false_alarm_rate=false_alarm_rate,
        count=count,
        source=_images(count, kind) + _SCORED[kind],
        map_low=None if map_medians is None else float(map_medians.median()),
        scores=tuple(scores.sort().values.tolist()),
        map_maxima=() if map_maxima is None else tuple(map_maxima.sort().values.tolist()),
        scored_by=kind,
    ).at_rate(false_alarm_rate)


_SCORED = {
    "holdout": "",
    "folds": ", each scored by a detector that was fitted on the others (cross-fitting)",
    "leave_one_out": ", each scored without itself (cross-fitting)",
}


def _images(count: int, kind: Kind) -> str:
    return f"{count} {'held-out ' * (kind == 'holdout')}normal image{'s' * (count > 1)}"


def _p_value(held_out: tuple[float, ...], value: float) -> float:
    return (1 + len(held_out) - bisect_left(held_out, value)) / (len(held_out) + 1)


def _odds(rate: float) -> str:
    """A rate as ``1 false alarm in 20`` where that is close to it, else as so many in 100."""
    images = round(1 / rate)
    if abs(images * rate - 1) < 0.005:
        return f"1 false alarm in {images:,}"
    return f"{100 * rate:.3g} false alarms in 100"


def _rank(count: int, rate: float) -> int:
    """The rank of the score that is the threshold, counted from the smallest."""
    return min(math.ceil((count + 1) * (1 - _exact(rate))), count)


def _exact(rate: float) -> Fraction:
    """The rate's exact decimal value: in floating point, (1 - 0.7) * 10 exceeds 3, which makes the rank one too high."""
    return Fraction(str(rate))
