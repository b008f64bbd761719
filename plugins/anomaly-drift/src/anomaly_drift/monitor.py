"""DriftMonitor: watches a stream of verdicts and of facts of its images, and says when they are no longer what they were."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

from anomaly_core import ConfigError
from anomaly_drift.alarm import DriftAlarm, Kind
from anomaly_drift.evidence import Alarms, Evidence
from anomaly_drift.facts import FACTS, changes
from anomaly_drift.judging import Change, Seen, matters, medians, told
from anomaly_drift.ranks import Ranks, place_of
from anomaly_drift.reference import Reference

DEFECTS = 0.05  # share of images that may be anything without an alarm
LEARN = 100  # images that take the place of a reference
_RECENT = 250  # images that are remembered one by one
_FORMAT = 1
_SCORES, _ALONE = "p_value", "p_value alone"
_ALL = ("up", "down", "spread")
_WEIGHTS = {_SCORES: 0.3, "alarms": 0.2, "facts": 0.5}  # shares of the false alarms that each may raise
_WAITS = 50  # images that a sure change waits for one that matters
_SUPPORT = 1e-3  # of its limit: what a fact must show to be called a cause of what another series is sure of
_STANDS_OUT = 1 / 740  # the chance of ranks so high, or so low, in a fact that has not changed


class DriftMonitor:
    """Watches one detector's stream of images.

    Ranks of p-values and facts among the reference and the stream (:class:`Ranks`) are bet against (:class:`Evidence`), each
    series by itself, and verdicts by :class:`Alarms`. While the images that are no defects stay exchangeable with those of the
    reference, and at most ``defects`` of all are defects, then for every t the probability of an alarm within t images from a
    start is at most ``t * per_10000 / 20,000``, so that on average false alarms are at least ``10,000 / per_10000`` images
    apart. For each series i reaches its limit C_i within t images with at most the probability t / C_i, and the limits obey
    sum(1 / C_i) = per_10000 / 20,000. An alarm on a fact waits, besides, until its median has changed by ``Fact.least``.

    After an alarm the images since the change, and those that follow, up to ``learn`` of them, become what is compared with:
    the next alarm tells of the next change, or that images are again as they were at first.

    Args:
        reference: what is compared with. Without facts, the first ``learn`` images take their place.
        per_10000: false alarms that are allowed in 10,000 images.
        defects: the greatest share of images that may be defects without an alarm on the bulk.
        learn: see above.

    Attributes:
        count: images seen.
        alarms: the number of alarms raised.
        nearness: how much of its limit the evidence reached with the last image, of the series that reached most.
    """

    def __init__(self, reference: Reference, per_10000: float = 1.0, *, defects: float = DEFECTS, learn: int = LEARN) -> None:
        if not (per_10000 > 0 and math.isfinite(per_10000)):
            raise ConfigError(f"per_10000={per_10000:g}: give the false alarms in 10,000 images that are allowed, above 0.")
        if not 0 <= defects < 0.5:
            raise ConfigError(f"defects={defects:g}: give the greatest share of defects among the images, below 0.5.")
        if learn < 20:
            raise ConfigError(f"learn={learn}: fewer than 20 images do not tell what is usual. Give at least 20.")
        self.per_10000, self.defects, self.learn = per_10000, defects, learn
        self.count = self.alarms = 0
        self.nearness = 0.0
        calibration = reference.calibration
        self._scores = len(calibration.scores)
        # cross-fitted scores are a little too high, and the stream would seem to score lower than they do
        crossed = calibration.scored_by != "holdout"
        self._names = [*([_SCORES] * bool(self._scores)), *([_ALONE] * bool(self._scores and crossed)), *FACTS]
        one_way: dict[str, tuple[str, ...]] = {_SCORES: ("down",), _ALONE: ("up", "spread")} if crossed else {}
        self._ways = [one_way.get(name, _ALL) for name in self._names]
        self._expected = reference.expected
        self._usual = reference.usual  # of the reference, for words
        self._level = dict(self._usual)  # of what is compared with now
        self._ranks: dict[str, Ranks] = {name: Ranks.of(values) for name, values in reference.facts.items()}
        if self._scores:
            self._ranks[_SCORES] = Ranks.of_p_values(calibration)
            if crossed:
                self._ranks[_ALONE] = Ranks.of_p_values(calibration, alone=True)
        self._learnt: list[Seen] | None = None if reference.facts else []  # None: nothing is to be learnt
        self._first = True  # whether images are compared with the reference itself
        self._recent: deque[Seen] = deque(maxlen=_RECENT)
        self._begun = 1  # the first image of what is compared with now
        self._tally = [0, 0]  # images and anomalous ones since the last alarm
        self._evidence = Evidence(len(self._names), self.defects, self._ways)
        self._share = Alarms(self._expected)
        self._limits = _limits(self._names, per_10000)

    @property
    def usual(self) -> dict[str, float]:
        """The median of each fact that changes are stated against; empty while they are learnt for the first time."""
        return dict(self._usual)

    @property
    def is_learning(self) -> bool:
        """Whether images are still learnt from, and facts raise no alarm."""
        return self._learnt is not None

    def recent_facts(self) -> list[dict[str, float]]:
        """The facts of the last images, of those since the last change of the bulk."""
        return [one.facts for one in self._recent if one.number >= self._begun]

    def update(
        self,
        p_value: float | None,
        facts: Mapping[str, float] | None = None,
        time: float | None = None,
        id: str = "",
        is_anomalous: bool | None = None,
    ) -> DriftAlarm | None:
        """Take in one image, in the order in which they come.

        Args:
            p_value: of the verdict; None without a threshold.
            facts: :func:`image_facts` of the image; None: unknown.
            time: seconds since 1970, or None.
            id: the image's name: it also seeds what breaks ties, so that the same stream gives the same alarms.
            is_anomalous: the verdict; None: whether the p-value is at most the share of false alarms that is expected.

        Returns:
            An alarm, or None.
        """
        self.count += 1
        if p_value is not None and not math.isfinite(p_value):
            p_value = None
        if is_anomalous is None and p_value is not None:
            is_anomalous = p_value <= self._expected
        is_anomalous = None if is_anomalous is None else bool(is_anomalous)
        seen = Seen(self.count, time, id, p_value, is_anomalous, dict(facts or {}))
        self._recent.append(seen)
        uniforms = _uniforms(id or str(self.count), len(self._names) + 1)
        totals = self._evidence.add(self._ranked(seen, uniforms), self.count)
        share = 0.0
        if is_anomalous is not None:
            self._tally[0] += 1
            self._tally[1] += is_anomalous
            share = self._share.add(is_anomalous, float(uniforms[-1]), self.count)
        alarm = self._alarm(seen, dict(zip(self._names, totals.tolist(), strict=True)), share)
        if alarm is None and self._learnt is not None:
            self._learnt.append(seen)
            if len(self._learnt) >= self.learn:
                self._learn()
        return alarm

    def _ranked(self, seen: Seen, uniforms: Any) -> Any:
        ranks = np.full(len(self._names), np.nan)
        for index, name in enumerate(self._names):
            own = self._ranks.get(name)
            if own is None:
                continue
            if name in (_SCORES, _ALONE):
                if seen.p_value is not None:
                    ranks[index] = own.next(place_of(seen.p_value, self._scores), uniforms[index])
            elif name in seen.facts and math.isfinite(seen.facts[name]):
                ranks[index] = own.next(seen.facts[name], uniforms[index])
        return ranks

    def _alarm(self, seen: Seen, totals: dict[str, float], share: float) -> DriftAlarm | None:
        """The alarm that the evidence amounts to, if it does; what is compared with begins anew then."""
        reached = {name: total / self._limits[name] for name, total in totals.items()}
        reached["alarms"] = share / self._limits["alarms"]
        self.nearness = max(reached.values())
        for name in sorted(reached, key=reached.__getitem__, reverse=True):
            if reached[name] < 1:
                return None
            start, way = self._start(name)
            since = [one for one in self._recent if one.number >= start]
            now = medians(since)
            shown = changes(self._level, now)
            moved = [cause for cause in shown if reached.get(cause, 0) >= _SUPPORT]
            if name not in FACTS or moved or matters(name, way, self._level[name], since):
                break
            if len(since) > _WAITS:  # sure, but too small: from now on it may grow
                self._evidence.clear(self._names.index(name))
        else:
            return None
        moved += [cause for cause in shown if cause not in moved and self._stands_out(cause, since)]
        change = Change(_SCORES if name == _ALONE else name, way, start, since, now, moved)
        alarm = told(change, seen, self._usual, None if self._first else self._level, self._tally, self._expected)
        self.alarms += 1
        self._begin_again(alarm.kind, since)
        return alarm

    def _stands_out(self, name: str, since: list[Seen]) -> bool:
        """Whether a fact of the images since a change lies as high or low among all so far as chance does once in 370 times.

        That something has changed is known: a cause needs less evidence than an alarm, which a few images do not give.
        """
        ranks = self._ranks.get(name)
        places = [ranks.middle(one.facts[name]) for one in since if name in one.facts] if ranks is not None else []
        return min(_chance(places), _chance([1 - place for place in places])) <= _STANDS_OUT

    def _start(self, name: str) -> tuple[int, str]:
        """The number of the image since which a series has changed, and how its ranks did."""
        if name == "alarms":
            return min(self._share.start(), self.count), ""
        index = self._names.index(name)
        return min(self._evidence.start(index), self.count), self._evidence.way(index)

    def _begin_again(self, kind: Kind, since: list[Seen]) -> None:
        """What is compared with from now on, after an alarm."""
        self._tally = [0, 0]
        if kind == "alarms":  # the bulk is as before
            self._share = Alarms(self._expected)
            return
        self._evidence = Evidence(len(self._names), self.defects, self._ways)
        self._share = Alarms(self._expected)
        self._first = False
        self._ranks = {}
        self._begun = since[0].number
        self._learnt = since[: self.learn]
        if len(self._learnt) >= self.learn:
            self._learn()

    def _learn(self) -> None:
        """Compare with the images that were learnt from now on."""
        images, self._learnt = self._learnt or [], None
        for name in FACTS:
            values = [one.facts[name] for one in images if name in one.facts and math.isfinite(one.facts[name])]
            if values:
                self._ranks[name] = Ranks.of(values)
                self._level[name] = median(values)
                self._usual.setdefault(name, self._level[name])
        p_values = [one.p_value for one in images if one.p_value is not None]
        if p_values:
            self._level[_SCORES] = median(p_values)
        places = [place_of(p_value, self._scores) for p_value in p_values]
        for name in (_SCORES, _ALONE):
            if places and name in self._names and name not in self._ranks:
                self._ranks[name] = Ranks.of(places)

    def state(self) -> dict[str, Any]:
        """Plain values for JSON, of about 60 KiB, with which :meth:`restore` goes on."""
        return {
            "format": _FORMAT,
            "options": {"per_10000": self.per_10000, "defects": self.defects, "learn": self.learn},
            "count": self.count,
            "alarms": self.alarms,
            "scores": self._scores,
            "names": self._names,
            "ways": [list(ways) for ways in self._ways],
            "expected": self._expected,
            "usual": self._usual,
            "level": self._level,
            "ranks": {name: ranks.state() for name, ranks in self._ranks.items()},
            "learnt": None if self._learnt is None else [list(one) for one in self._learnt],
            "first": self._first,
            "recent": [list(one) for one in self._recent],
            "begun": self._begun,
            "tally": self._tally,
            "evidence": self._evidence.state(),
            "share": self._share.state(),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> DriftMonitor:
        """The monitor from :meth:`state`.

        Raises:
            ConfigError: the state is damaged, or of another version; begin with a new monitor.
        """
        try:
            if state["format"] != _FORMAT:
                raise ValueError(f"its format is {state['format']!r}, and this version writes {_FORMAT}")
            monitor = cls.__new__(cls)
            monitor._load(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the state of a drift monitor cannot be taken up: {error}. Begin with a new one: it learns again."
            ) from error
        return monitor

    def _load(self, state: Mapping[str, Any]) -> None:
        options = state["options"]
        self.per_10000, self.defects = float(options["per_10000"]), float(options["defects"])
        self.learn, self.count, self.alarms = int(options["learn"]), int(state["count"]), int(state["alarms"])
        self.nearness = 0.0
        self._scores, self._names = int(state["scores"]), list(state["names"])
        self._ways = [tuple(ways) for ways in state["ways"]]
        self._expected, self._first = float(state["expected"]), bool(state["first"])
        self._usual, self._level = dict(state["usual"]), dict(state["level"])
        self._ranks = {name: Ranks.restore(one) for name, one in state["ranks"].items()}
        self._learnt = None if state["learnt"] is None else [Seen(*one) for one in state["learnt"]]
        self._recent = deque((Seen(*one) for one in state["recent"]), maxlen=_RECENT)
        self._begun = int(state["begun"])
        self._tally = list(map(int, state["tally"]))
        self._evidence = Evidence(len(self._names), self.defects, self._ways)
        self._evidence.load(state["evidence"])
        self._share = Alarms.restore(state["share"])
        self._limits = _limits(self._names, self.per_10000)


def _chance(places: list[float]) -> float:
    """The probability that so many uniform numbers lie as high together (Fisher's combination, whose law here is Erlang's)."""
    total = -sum(math.log(max(1 - place, 1e-12)) for place in places)
    term = found = math.exp(-total)
    for number in range(1, len(places)):
        term *= total / number
        found += term
    return found if places else 1.0


def _limits(names: list[str], per_10000: float) -> dict[str, float]:
    """The limit of each series: the sum of their inverses is ``per_10000 / 20,000``."""
    scores = [name for name in (_SCORES, _ALONE) if name in names]
    shares = {**dict.fromkeys(FACTS, _WEIGHTS["facts"] / len(FACTS)), "alarms": _WEIGHTS["alarms"]}
    shares |= {name: _WEIGHTS[_SCORES] / len(scores) for name in scores}
    return {name: 20_000 / per_10000 / share for name, share in shares.items()}


def _uniforms(name: str, count: int) -> Any:
    """Uniform random numbers in (0, 1) that are the same for the same name."""
    words = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4 * count).digest()
    return (np.frombuffer(words, dtype="<u4") + 0.5) / 2**32
