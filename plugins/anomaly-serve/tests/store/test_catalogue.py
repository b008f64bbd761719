"""Products, versions, settings, and the diary of who changed what."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from anomaly_core import Calibration, DataError
from anomaly_serve.records import Job
from anomaly_serve.store import Store


def test_versions_count_up_and_one_judges(store: Store, calibration: Calibration) -> None:
    second = store.add_version("tile", "/runs/2", calibration=calibration, parent=1, who="ben", note="more images")
    assert (second.number, second.parent, second.note, second.is_active) == (2, 1, "more images", False)
    assert [version.number for version in store.versions("tile")] == [1, 2]
    assert store.active("tile") == store.version("tile", 1)
    store.activate("tile", 2, "ben")
    active = store.active("tile")
    assert active is not None and active == replace(second, is_active=True)
    assert [version.is_active for version in store.versions("tile")] == [False, True]
    store.activate("tile", None, "ben")
    assert store.active("tile") is None
    assert store.version("tile", 3) is None
    for number in (0, 3):
        with pytest.raises(DataError):
            store.activate("tile", number, "ben")
    with pytest.raises(DataError):
        store.add_version("tile", "/runs/3", calibration=calibration, parent=7, who="ben")


def test_how_a_version_was_taught_is_noted_with_it_or_not_at_all(store: Store, calibration: Calibration) -> None:
    known = {"set": "set-1", "job": "job1", "warnings": ["few images"]}
    store.add_version("tile", "/runs/2", calibration=calibration, who="ben", taught=known)
    assert (store.taught("tile", 1), store.taught("tile", 2)) == (None, known)
    with pytest.raises(DataError):
        store.add_version("tile", "/runs/3", calibration=calibration, parent=7, who="ben", taught=known)
    assert store.taught("tile", 3) is None


def test_settings_follow_each_other_and_say_why(store: Store, calibration: Calibration) -> None:
    first = store.settings("tile", 1)
    assert [(s.number, s.calibration, s.least_area, s.who) for s in first] == [(1, calibration, 20.0, "anna")]
    added = store.add_settings("tile", 1, calibration.with_threshold(0.35), None, "ben", "too many alarms")
    assert store.settings("tile", 1) == [*first, added]
    assert (added.number, added.calibration.threshold, added.why) == (2, 0.35, "too many alarms")
    change = store.changes("tile", limit=1)[0]
    assert (change.who, change.action) == ("ben", "settings")
    assert change.facts["threshold"] == [0.5, 0.35]
    assert store.settings("tile", 2) == []
    with pytest.raises(DataError):
        store.add_settings("tile", 2, calibration, None, "ben", "")


def test_every_change_has_a_name_and_pages_go_back(store: Store) -> None:
    store.add_change("tile", "recalibrate", {"images": 500}, "ben")
    found = store.changes("tile")
    assert [change.action for change in found] == ["recalibrate", "activate", "add version", "add product"]
    assert [change.who for change in found] == ["ben", "anna", "anna", "anna"]
    assert store.changes("tile", limit=2, before=found[1].time) == found[2:]
    assert store.changes("another") == []


@pytest.mark.parametrize("name", ["", " tile", "a/b", "a\\b", "a\nb", "x" * 101, "a?b", "50%", "a\ud800b"])
def test_a_name_that_no_address_can_hold_is_refused(store: Store, name: str) -> None:
    with pytest.raises(DataError, match="cannot be called"):
        store.add_product(name, "anna")


def test_a_product_is_added_once(store: Store) -> None:
    store.add_product("Kachel 5 grün", "anna")
    assert store.products() == ["Kachel 5 grün", "tile"]
    with pytest.raises(DataError, match="already"):
        store.add_product("tile", "anna")
    with pytest.raises(DataError, match="no product"):
        store.versions("another")


def test_alarms_stay_open_until_somebody_knows(store: Store) -> None:
    first = store.add_alarm("tile", 1, "images are 18 % brighter", {"brightness": 0.18}, since=100.0, moment=120.0)
    second = store.add_alarm("tile", 1, "again", {}, since=200.0)
    assert store.alarms("tile") == [second, first]
    assert (first.since, first.time, first.facts, first.acknowledged) == (100.0, 120.0, {"brightness": 0.18}, None)
    known = store.acknowledge(first.id, "ben")
    assert known.acknowledged is not None and abs(known.acknowledged - time.time()) < 60
    assert store.acknowledge(first.id, "carla") == known  # the first time counts
    assert store.alarms("tile", open_only=True) == [second]
    assert [change.who for change in store.changes("tile") if change.action == "acknowledge"] == ["ben"]
    with pytest.raises(DataError):
        store.acknowledge(999, "ben")


def test_jobs_and_states_are_replaced(store: Store) -> None:
    job = Job("a", "tile", "running", 1.0, 2.0, "anna", 0.5, "fitting", {"set": "x"})
    later = Job("b", "tile", "waiting", 3.0, 3.0, "anna")
    for each in (job, later, replace(job, state="done", progress=1.0)):
        store.save_job(each)
    assert store.job("a") == replace(job, state="done", progress=1.0)
    assert [each.id for each in store.jobs("tile")] == ["b", "a"]
    assert store.job("c") is None
    store.keep_state("drift/tile", {"sum": 1.5})
    store.keep_state("drift/tile", {"sum": 2.5})
    assert store.state("drift/tile") == {"sum": 2.5}
    assert store.state("drift/other") is None
    with pytest.raises(DataError):
        store.keep_state("drift/tile", {"sum": float("nan")})


def test_two_services_number_without_a_clash(postgresql, tmp_path: Path, calibration: Calibration) -> None:  # type: ignore[no-untyped-def]
    url = postgresql()
    with Store.open(url, tmp_path / "a") as one, Store.open(url, tmp_path / "b") as other:
        one.add_product("tile", "anna")

        def add(number: int) -> tuple[int, int]:
            store = (one, other)[number % 2]
            version = store.add_version("tile", f"/runs/{number}", calibration=calibration, who="anna").number
            return version, store.add_settings("tile", 1, calibration, None, "anna", "").number

        with ThreadPoolExecutor(8) as pool:
            added = list(pool.map(add, range(40)))
        assert sorted(version for version, _ in added) == list(range(1, 41))
        assert sorted(number for _, number in added) == list(range(2, 42))
        assert one.versions("tile") == other.versions("tile")
