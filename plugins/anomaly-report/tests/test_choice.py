"""The choice of the pictures, compared with a choice by somebody who sees all images at once."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from anomaly_core import TestedImage
from anomaly_report.choice import chosen, kept


@dataclass(frozen=True)
class Entry:
    order: int
    row: TestedImage


def entries(rows: list[tuple[str, str, int | None, float]], threshold: float | None = 5.0) -> list[Entry]:
    return [
        Entry(n, TestedImage(f"{n}.png", category, defect, label, score, None if threshold is None else score > threshold))
        for n, (category, defect, label, score) in enumerate(rows)
    ]


def names(chosen: list[Entry]) -> list[int]:
    return [entry.order for entry in chosen]


def brute_force(images: list[Entry], threshold: float | None, wanted: int) -> list[int]:
    """The places are filled one by one, each with the best image of all for it."""
    taken: list[int] = []

    def take(places: int, rank, where=lambda row: True) -> None:
        """The first of a ranking, as many as there are places, whether or not they have one already."""
        for entry in sorted((one for one in images if where(one.row)), key=lambda one: (rank(one.row), one.order))[:places]:
            if entry.order not in taken and len(taken) < wanted:
                taken.append(entry.order)

    def is_miss(row: TestedImage) -> bool:
        return threshold is not None and row.label == 1 and row.score <= threshold

    def is_alarm(row: TestedImage) -> bool:
        return threshold is not None and row.label == 0 and row.score > threshold

    def take_wrong(places: int) -> None:
        misses, alarms = (sum(map(where, (one.row for one in images))) for where in (is_miss, is_alarm))
        for place in range(places):
            for where, count, sign in ((is_miss, misses, 1), (is_alarm, alarms, -1)):
                if place < count and places > 0:
                    take(place + 1, lambda row, sign=sign: sign * row.score, where)
                    places -= 1

    def take_of_each_kind(places: int) -> None:
        for sign in (-1, 1):
            for position in range(max((len(kinds) for kinds in by_category.values()), default=0)):
                for kinds in (by_category[category] for category in sorted(by_category)):
                    if position < len(kinds):
                        kind = kinds[position]
                        where = lambda row, kind=kind: (row.category, row.label == 1, row.defect) == kind  # noqa: E731
                        take(places, lambda row, sign=sign: sign * row.score, where)

    by_category: dict[str, list[tuple[str, bool, str]]] = {}
    for kind in sorted({(one.row.category, one.row.label != 1, one.row.defect) for one in images}):
        by_category.setdefault(kind[0], []).append((kind[0], not kind[1], kind[2]))
    take_wrong((wanted + 1) // 2)
    if threshold is not None:
        take(wanted // 6, lambda row: abs(row.score - threshold))
    for place in (1, 2, 3):
        take(place, lambda row: -row.score)
        take(place, lambda row: row.score)
    take_of_each_kind(1)
    take_wrong(len(images))
    for places in range(2, len(images) + 1):
        take_of_each_kind(places)
    return sorted(taken)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_kept_on_the_way_gives_the_choice_of_all(seed: int) -> None:
    draw = random.Random(seed)
    threshold = draw.choice([None, 5.0])
    categories, kinds = draw.choice(["a", "ab", "abcdefgh"]), draw.choice(["g", "gd", "gdefhij"])
    rows = []
    for _ in range(draw.randrange(80)):
        kind = draw.choice(kinds)
        label = None if draw.random() < 0.05 else int(kind != "g")
        score = draw.choice([float(draw.randrange(10)), 10 * draw.random()])  # of the former, many are equal
        rows.append((draw.choice(categories), kind, label, score))
    images, wanted = entries(rows, threshold), draw.randrange(30)
    held: list[Entry] = []
    start = 0
    while start < len(images):
        end = start + draw.randrange(1, 17)
        held = kept([*held, *images[start:end]], threshold, wanted)
        assert len(held) <= 2 * wanted + wanted // 6 + 6
        start = end
    result = names(chosen(held, threshold, wanted))
    assert result == brute_force(images, threshold, wanted)
    assert len(result) == min(wanted, len(images))


def test_misses_and_false_alarms_come_first_the_worst_of_them() -> None:
    rows = [("a", "good", 0, 1.0)] * 50 + [("a", "dent", 1, 9.0)] * 50
    rows += [("a", "good", 0, 6.0), ("a", "dent", 1, 4.0), ("a", "good", 0, 7.0), ("a", "dent", 1, 2.0)]
    images = entries(rows)
    assert {100, 101, 102, 103} <= set(names(chosen(images, 5.0, 8)))
    assert {102, 103} <= set(names(chosen(images, 5.0, 4))), "the worst of each"


def test_many_misses_leave_room_for_others() -> None:
    rows = [("a", "dent", 1, 1 + n / 100) for n in range(100)] + [("a", "good", 0, n / 10) for n in range(20)]
    rows += [("a", "hole", 1, 8.0), ("a", "hole", 1, 9.0)]
    picked = set(names(chosen(entries(rows), 5.0, 24)))
    assert set(range(12)) <= picked, "the worst misses"
    assert {121, 120, 119, 100, 101, 102} <= picked, "the highest and the lowest of all"
    assert {99, 98} <= picked, "the highest of its kind, and those nearest to the threshold"


def test_of_many_categories_each_is_shown() -> None:
    both = (("good", 0, 2.0), ("x", 1, 6.0))
    rows = [(f"c{n % 15:02d}", kind, label, score) for n in range(150) for kind, label, score in both]
    images = entries(rows)
    assert {images[n].row.category for n in names(chosen(images, 5.0, 24))} == {f"c{n:02d}" for n in range(15)}


def test_equal_scores_are_taken_in_the_order_of_the_test_set() -> None:
    images = entries([("a", "good", 0, 1.0)] * 10)
    assert names(chosen(images, 5.0, 3)) == [0, 1, 2]
