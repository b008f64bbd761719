"""What evidence of a change amounts to: an alarm, its kind, its causes and its counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from anomaly_drift.alarm import ADVICE, DriftAlarm, Kind, moment, sentence
from anomaly_drift.facts import FACTS, changes

_LOW = 0.3  # the median p-value of images without an alarm: of normal images it is about a half
_AGAIN = (0.2, 0.8)  # within these it is as at first


class Seen(NamedTuple):
    """An image that a monitor has seen."""

    number: int
    time: float | None
    id: str
    p_value: float | None
    is_anomalous: bool | None
    facts: dict[str, float]


class Change(NamedTuple):
    """A change that a series told.

    Attributes:
        series, way: a fact's name, ``p_value`` or ``alarms``; its ranks went ``up``, ``down`` or ``spread``.
        start: the number of the first image after it.
        since: the images since then that are still remembered.
        now: the medians of their facts.
        moved: the facts that have moved enough to matter, and surely enough to be a cause.
    """

    series: str
    way: str
    start: int
    since: list[Seen]
    now: dict[str, float]
    moved: list[str]


def matters(name: str, way: str, level: float, since: Sequence[Seen]) -> bool:
    """Whether a fact has changed by as much as is worth an alarm: in its median, or from image to image."""
    values = [one.facts[name] for one in since if name in one.facts]
    now = median(values) if way != "spread" else level + median(abs(value - level) for value in values)
    return abs(FACTS[name].change(level, now)) >= FACTS[name].least


def told(
    change: Change,
    seen: Seen,
    usual: Mapping[str, float],
    level: Mapping[str, float] | None,
    tally: Sequence[int],
    expected: float,
) -> DriftAlarm:
    """The alarm that a change is.

    Args:
        change: what was found.
        seen: the image with which it became certain.
        usual: the medians of the facts that the threshold was set with.
        level: the medians before the change, with that of the p-values, where an alarm came before it; None: ``usual``.
        tally: images, and anomalous ones, before ``seen`` since the last alarm.
        expected: the share of false alarms.
    """
    kind, way = _kind(change, usual, level)
    counts = _counts(change.since, tally, expected)
    first = change.since[0]
    when = ("before " if first.number > change.start else "") + moment(first.time, first.number, seen.time)
    causes = [] if kind == "return" else _causes(change, usual)
    text = sentence(kind, when, causes, change.series, way, counts)
    facts = {
        "series": change.series,
        "way": way,
        "changes": changes(usual, change.now),
        "usual": {name: usual[name] for name in change.now if name in usual},
        "now": change.now,
        "p_value": _middle(one.p_value for one in change.since),
        **counts,
    }
    when_seen, since = (seen.number, seen.time, seen.id), (first.number, first.time, first.id)
    return DriftAlarm(kind, *when_seen, *since, text, ADVICE[kind], facts)


def _kind(change: Change, usual: Mapping[str, float], level: Mapping[str, float] | None) -> tuple[Kind, str]:
    """The kind of the alarm, and how the ranks changed."""
    if level is not None and _is_back(change, usual, level):
        return "return", change.way
    if change.series != "alarms" or change.moved:
        return "threshold", change.way
    quiet = _middle(one.p_value for one in change.since if not one.is_anomalous)
    if quiet is not None and quiet < _LOW:
        return "threshold", "down"
    if 2 * sum(bool(one.is_anomalous) for one in change.since) < len(change.since):
        return "alarms", change.way
    return "threshold", change.way


def _is_back(change: Change, usual: Mapping[str, float], level: Mapping[str, float]) -> bool:
    """Whether all that was not as usual before the change has come back: most of the way, as medians of a few images show."""
    middle, away = _middle(one.p_value for one in change.since), changes(usual, level)
    if not away.keys() <= set(change.moved) or (middle is not None and not _AGAIN[0] < middle < _AGAIN[1]):
        return False
    if not away and _AGAIN[0] < level.get("p_value", 0.5) < _AGAIN[1]:
        return False
    return all(3 * abs(change.now[name] - usual[name]) < abs(change.now[name] - level[name]) for name in away)


def _causes(change: Change, usual: Mapping[str, float]) -> list[str]:
    """What has changed, by how much of what is usual, in words; what changed by most of its least change first."""
    sizes = {name: abs(FACTS[name].change(usual[name], change.now[name])) / FACTS[name].least for name in change.moved}
    order = sorted((name for name in sizes if sizes[name] >= 1), key=sizes.__getitem__, reverse=True)
    return [FACTS[name].words(usual[name], change.now[name]) for name in order]


def _counts(since: Sequence[Seen], tally: Sequence[int], expected: float) -> dict[str, Any]:
    judged = [one.is_anomalous for one in since if one.is_anomalous is not None]
    images, anomalous = len(judged), sum(judged)
    before = max(tally[0] - images, 0)
    anomalous_before = min(max(tally[1] - anomalous, 0), before)
    counts = {"images": images, "anomalous": anomalous, "images_before": before, "anomalous_before": anomalous_before}
    return {**counts, "expected": expected}


def medians(images: Iterable[Seen]) -> dict[str, float]:
    """The median of each fact."""
    rows = [one.facts for one in images]
    found = {name: [row[name] for row in rows if name in row] for name in FACTS}
    return {name: median(values) for name, values in found.items() if values}


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
