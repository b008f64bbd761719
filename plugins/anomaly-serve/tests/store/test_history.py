"""Verdicts come back as they were recorded, and are found by what is asked for."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from anomaly_core import DataError
from anomaly_serve.store import Store


def ids(found: Any) -> list[int]:
    return [int(judgement.id) for judgement in found]


def record(store: Store, judgements: Any) -> None:
    for future in store.record_many([(judgement, None, ".png") for judgement in judgements]):
        future.result()


def test_a_verdict_comes_back_as_it_was(store: Store, judgement: Any) -> None:
    plain = judgement(1)
    bare = judgement(2, p_value=None, threshold=None, is_anomalous=None, regions=None, times={}, facts={}, name="")
    many = judgement(3, name="Ünïcode 部品 'x' \"y\" %", regions=())
    record(store, (plain, bare, many))
    assert [store.judgement(each.id) for each in (plain, bare, many)] == [plain, bare, many]
    assert store.judgement("0" * 26) is None


def test_a_name_that_a_database_refuses_is_written_out(store: Store, judgement: Any) -> None:
    record(store, [judgement(1, name="a\x00b\n\udcff")])
    kept = store.judgement(judgement(1).id)
    assert kept is not None and kept.name == "a\\x00b\\x0a\\udcff"


@pytest.mark.parametrize("changes", [{"score": float("nan")}, {"p_value": float("inf")}, {"id": "../../../etc/passwd"}])
def test_what_cannot_be_kept_is_refused_at_once(store: Store, judgement: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        store.record(judgement(1, **changes))


def test_one_refused_verdict_does_not_take_others_with_it(store: Store, judgement: Any) -> None:
    record(store, [judgement(1)])
    entries = [judgement(1, name="again"), judgement(2), judgement(3, version=9), judgement(4)]
    futures = store.record_many([(entry, None, ".png") for entry in entries])
    assert [type(future.exception()) for future in futures] == [DataError, type(None), DataError, type(None)]
    assert ids(store.judgements("tile")) == [4, 2, 1]
    assert store.judgements("tile")[-1].name == "part 1"


def test_pages_are_newest_first_and_join_without_a_gap(store: Store, judgement: Any) -> None:
    # three at a time came in the same moment
    record(store, [judgement(number, time=1000.0 + number // 3) for number in range(40)])
    pages, before = [], None
    while page := store.judgements("tile", limit=7, before=before):
        pages += ids(page)
        before = page[-1].id
    assert pages == list(range(39, -1, -1))
    assert [int(row.id) for row in store.each("tile")] == pages
    with pytest.raises(DataError):
        store.judgements("tile", before="f" * 26)


def test_filters(store: Store, judgement: Any) -> None:
    store.add_version("tile", "/runs/2", calibration=store.settings("tile", 1)[0].calibration, who="anna")
    start = judgement(0).time
    record(store, [judgement(number, version=1 + number // 20, p_value=number / 40) for number in range(40)])
    for number, mark in ((3, "missed"), (10, "confirmed"), (20, "fine")):
        store.mark(judgement(number).id, mark, "ben")
    expected: list[tuple[dict[str, Any], list[int]]] = [
        ({"is_anomalous": True}, [30, 20, 10, 0]),
        ({"is_anomalous": True, "version": 2}, [30, 20]),
        ({"is_anomalous": False, "since": start + 28}, [39, 38, 37, 36, 35, 34, 33, 32, 31, 29, 28]),
        ({"mark": "missed"}, [3]),
        ({"mark": "any"}, [20, 10, 3]),
        ({"mark": "none", "until": start + 5}, [4, 2, 1, 0]),
        ({"mark": "any", "is_anomalous": False}, [3]),
        ({"text": "PART 7"}, [7]),
        ({"text": "_"}, []),
        ({"text": judgement(12).id}, [12]),
        ({"text": judgement(12).id, "is_anomalous": True}, []),
        ({"text": "%"}, []),
        ({"since": start + 5, "until": start + 7}, [6, 5]),
        ({"most_p": 0.05}, [2, 1, 0]),
        ({"least_p": 0.95}, [39, 38]),
        ({"is_anomalous": None, "mark": None, "text": None, "until": start + 1}, [0]),
    ]
    for filters, numbers in expected:
        assert ids(store.judgements("tile", **filters)) == numbers, filters
        assert store.count("tile", **filters) == len(numbers), filters
    assert store.count("another") == 0


def test_scores_come_newest_last(store: Store, judgement: Any) -> None:
    record(store, [judgement(number) for number in (3, 1, 2)])
    start = judgement(0).time
    assert [score.score for score in store.scores("tile", 1)] == [0.001, 0.002, 0.003]
    assert store.scores("tile", 1, limit=1) == [(start + 3, 0.003, 0.5, False)]
    assert [score.score for score in store.scores("tile", None, since=start + 2)] == [0.002, 0.003]
    assert store.scores("tile", 2) == []


def test_days_count_images_alarms_and_marks(store: Store, judgement: Any) -> None:
    midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    moments = [midnight - 86400.0, midnight - 1, midnight, midnight + 1]
    record(store, [judgement(number, time=moment, is_anomalous=number > 1) for number, moment in enumerate(moments)])
    store.mark(judgement(0).id, "missed", "ben")
    store.mark(judgement(2).id, "fine", "ben")
    days = store.daily("tile", 3, timezone.utc)
    assert [day[1:] for day in days] == [(0, 0, 0, 0, 0), (2, 0, 0, 0, 1), (2, 2, 0, 1, 0)]
    assert days[-1].day == datetime.now(timezone.utc).date()
    assert sum(day.images for day in store.daily("tile", 4)) == 4  # by this computer's clock, wherever it stands


def test_a_mark_is_noted_and_can_be_taken_back(store: Store, judgement: Any) -> None:
    record(store, [judgement(1)])
    identity = judgement(1).id
    assert store.mark(identity, "missed", "ben") == replace(judgement(1), mark="missed") == store.judgement(identity)
    store.mark(identity, "missed", "ben")  # changes nothing
    store.mark(identity, None, "ben")
    assert store.judgement(identity) == judgement(1)
    marks = [(change.who, change.facts) for change in store.changes("tile") if change.action == "mark"]
    assert marks == [
        ("ben", {"id": identity, "from": "missed", "to": None}),
        ("ben", {"id": identity, "from": None, "to": "missed"}),
    ]
    assert [change.facts for change in store.changes("tile", subject=identity)] == [facts for _, facts in marks]
    with pytest.raises(DataError):
        store.mark("0" * 26, "fine", "ben")
    with pytest.raises(DataError):
        store.mark(identity, "nonsense", "ben")  # type: ignore[arg-type]


def test_what_was_answered_is_there_after_opening_again(url: str | None, tmp_path: Any, fill: Any, judgement: Any) -> None:
    with Store.open(url, tmp_path) as store:
        fill(store)
        futures = store.record_many([(judgement(number), b"image", ".png") for number in range(500)])
    assert all(future.done() and future.exception() is None for future in futures)  # closing writes what waits
    with Store.open(url, tmp_path) as store:
        assert store.count("tile") == 500
        assert store.used_bytes() == 2500
        assert store.image(judgement(7).id) == (b"image", "image/png")


def test_verdicts_of_many_threads_are_all_kept(store: Store, judgement: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> float:
        store.record(judgement(number), b"x" * number).result()
        return time.monotonic()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(200)))
    assert store.count("tile") == 200
    assert store.used_bytes() == sum(range(200))
