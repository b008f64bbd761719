"""Which test images are shown: chosen with all scores known, though few images are kept until then. Torch-free.

An image is chosen by its places in rankings. Images that follow can move it further back, never forward: what is beyond the
places that count may go at once, and the choice at the end is that of all images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Protocol, TypeVar

from anomaly_core import ANOMALOUS, NORMAL, TestedImage

HEADED = 3  # images under each heading of a report, such as "Most anomalous"


class Entry(Protocol):
    """An image that may be shown.

    Attributes:
        order: its number in the test set, which breaks ties.
        row: with a finite score.
    """

    order: int
    row: TestedImage


E = TypeVar("E", bound=Entry)


def chosen(entries: Iterable[E], threshold: float | None, wanted: int) -> list[E]:
    """The images to show, at most ``wanted``, in the order of the test set.

    In half of the places: misses and false alarms, in turn, the worst first. Then those nearest to the threshold, the highest
    and the lowest of all, the highest and the lowest of each kind of defect, further misses and false alarms, and
    further images of each kind, from both ends.
    """
    wrong, near, ends, first, further = _rankings(list(entries), threshold, wanted)
    ordered = [*wrong[: (wanted + 1) // 2], *near, *ends, *first, *wrong, *further]
    return sorted(_distinct(ordered)[:wanted], key=lambda entry: entry.order)


def kept(entries: Iterable[E], threshold: float | None, wanted: int) -> list[E]:
    """Those that may still be chosen, whatever images follow; about two and a half times ``wanted`` at most."""
    return _distinct(entry for ranking in _rankings(list(entries), threshold, wanted) for entry in ranking)


def _rankings(entries: list[E], threshold: float | None, wanted: int) -> tuple[list[E], ...]:
    """Wrong verdicts; nearest to the threshold; highest and lowest; of each kind those two; the others of each kind."""
    if not wanted:
        return [], [], [], [], []
    rising = sorted(entries, key=lambda entry: (entry.row.score, entry.order))
    falling = sorted(entries, key=lambda entry: (-entry.row.score, entry.order))
    misses = [entry for entry in rising if entry.row.label == ANOMALOUS and entry.row.is_anomalous is False]
    alarms = [entry for entry in falling if entry.row.label == NORMAL and entry.row.is_anomalous]
    near: list[E] = []
    if threshold is not None:
        near = sorted(entries, key=lambda entry: (abs(entry.row.score - threshold), entry.order))[: wanted // 6]
    first, further = _of_each_kind(falling, rising, wanted)
    return _in_turn([misses, alarms])[:wanted], near, _in_turn([falling[:HEADED], rising[:HEADED]]), first, further


def _of_each_kind(falling: Sequence[E], rising: Sequence[E], wanted: int) -> tuple[list[E], list[E]]:
    """The highest of each kind, then the lowest of each; and the second highest, and so on: ``wanted`` images in all."""
    kinds = _kinds(entry.row for entry in falling)
    queues: list[list[E]] = []
    for ranking in (falling, rising):
        of_kind: dict[_Kind, list[E]] = {kind: [] for kind in kinds}
        for entry in ranking:
            of_kind[_kind(entry.row)].append(entry)
        queues += [queue[:wanted] for queue in of_kind.values()]
    everything = _distinct(_in_turn(queues))[:wanted]
    count = len(_distinct(queue[0] for queue in queues))
    return everything[:count], everything[count:]


_Kind = tuple[str, bool, str]


def _kind(row: TestedImage) -> _Kind:
    return row.category, row.label != ANOMALOUS, row.defect


def _kinds(rows: Iterable[TestedImage]) -> list[_Kind]:
    """By name, anomalous ones first, of each category in turn: some of every category are shown though there are many."""
    by_category: dict[str, list[_Kind]] = defaultdict(list)
    for kind in sorted({_kind(row) for row in rows}):
        by_category[kind[0]].append(kind)
    return _in_turn(list(by_category.values()))


T = TypeVar("T")


def _in_turn(queues: Sequence[Sequence[T]]) -> list[T]:
    """The first of each, the second of each, and so on."""
    missing = object()
    return [one for turn in zip_longest(*queues, fillvalue=missing) for one in turn if one is not missing]  # type: ignore[misc]


def _distinct(entries: Iterable[E]) -> list[E]:
    return list({entry.order: entry for entry in entries}.values())
