"""What a broker has not acknowledged is told, in order, whatever fits into memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomaly_core import Calibration
from anomaly_serve.doors import outbox
from anomaly_serve.doors.outbox import Outbox
from anomaly_serve.identifiers import new_id
from anomaly_serve.records import Judgement
from anomaly_serve.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(None, tmp_path / "store") as store:
        for product in ("bolts", "nuts"):
            store.add_product(product, "test")
            calibration = Calibration(0.5, 0.01, 10, "test")
            store.add_version(product, "/none", who="test", note="", calibration=calibration, least_area=None)
        yield store


def judged(store: Store, *, product: str = "bolts", at: float | None = None) -> Judgement:
    """A verdict that is in the history."""
    at = time.time() if at is None else at
    judgement = Judgement(new_id(at), product, 1, at, "http", "", 0.1, 0.5, 0.5, False, (8, 8))
    store.record(judgement, None).result()
    return judgement


def told(box: Outbox, *, acknowledged: bool = True) -> list[str]:
    found = []
    for _ in range(10_000):
        if box.is_behind:
            box.fill()
        if (judgement := box.take()) is None:
            if not box.is_behind:
                break
            continue
        found.append(judgement.id)
        if acknowledged:
            box.acknowledge(judgement.id)
    return found


def test_new_verdicts_are_told_once_and_the_time_before_the_first_start_is_not(store: Store) -> None:
    judged(store, at=time.time() - 100)
    box = Outbox(store, "box")
    fresh = [judged(store) for _ in range(5)]
    for judgement in fresh:
        box.add(judgement)
    assert told(box) == [one.id for one in fresh]
    assert told(box) == []


def test_after_a_kill_what_was_not_acknowledged_comes_again_and_the_rest_does_not(store: Store) -> None:
    box = Outbox(store, "box")
    assert told(box) == []
    fresh = [judged(store) for _ in range(6)]
    for judgement in fresh:
        box.add(judgement)
    for _ in range(4):
        taken = box.take()
        assert taken is not None
    for judgement in fresh[:2]:
        box.acknowledge(judgement.id)
    box.save()  # and is killed
    later = judged(store)
    assert told(Outbox(store, "box")) == [one.id for one in [*fresh[2:], later]]
    assert sorted(told(Outbox(store, "box"))) == sorted(one.id for one in [*fresh[2:], later])  # was not saved


def test_what_came_early_and_was_judged_late_is_not_forgotten_after_a_kill(store: Store) -> None:
    box = Outbox(store, "box")
    now = time.time()
    box._since["bolts"] = now - 1000  # it is not the first start
    box.add(judged(store, at=now))
    told(box)
    box.save()
    slow = judged(store, at=now - 30)  # came before, was committed later, and nobody was told
    assert told(Outbox(store, "box")) == [slow.id]


def test_a_clock_that_is_set_back_loses_nothing(store: Store) -> None:
    box = Outbox(store, "box")
    box._began = 0.0
    box.add(judged(store))
    told(box)
    box.save()
    back = judged(store, at=time.time() - 3600)
    box.add(back)
    box.save()
    assert back.id in told(Outbox(store, "box"))


def test_a_long_absence_is_read_page_by_page_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST", 20)
    box = Outbox(store, "box")
    assert told(box) == []
    start = time.time()
    many = [judged(store, at=start + 0.01 * number, product=("bolts", "nuts")[number % 2]) for number in range(130)]
    many += [judged(store, at=start + 5000 + 40 * number) for number in range(30)]
    for judgement in many[:60]:
        box.add(judgement)
    assert len(box) == 20 and box.is_behind
    box.save()
    for restarted in (box, Outbox(store, "box")):
        sizes = []
        found = []
        while len(found) < len(many):
            restarted.fill()
            sizes.append(len(restarted))
            while (one := restarted.take()) is not None:
                found.append(one.id)
                restarted.acknowledge(one.id)
        assert max(sizes) <= 60
        for product in ("bolts", "nuts"):
            ours = [one.id for one in many if one.product == product]
            assert [identity for identity in found if identity in set(ours)] == ours
        assert told(restarted) == []


def test_many_at_once_after_a_pause_are_read_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST", 20)
    box = Outbox(store, "box")
    assert told(box) == []
    many = [judged(store, at=time.time() + pause + 0.0001 * number) for pause in (37, 50) for number in range(100)]
    for judgement in many:
        box.add(judgement)
    assert told(box) == [one.id for one in many]


def test_what_is_refused_is_told_again_first_and_a_page_that_fails_is_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Outbox(store, "box")
    told(box)
    first, second = judged(store), judged(store)
    box.add(first)
    box.add(second)
    assert box.take() == first
    box.put_back(first.id)
    assert told(box) == [first.id, second.id]
    third = judged(store)
    box._behind["bolts"] = third.time
    with monkeypatch.context() as patch:
        patch.setattr(store, "judgements", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            box.fill()
    assert told(box) == [third.id]


def test_memory_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RECENT", 10)
    box = Outbox(store, "box")
    told(box)
    for _ in range(50):
        box.add(judged(store))
    assert len(told(box)) == 50
    box.save()
    assert len(box._recent) <= 10
    assert told(Outbox(store, "box")) == []
