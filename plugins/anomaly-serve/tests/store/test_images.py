"""Kept images: what the quota takes first, what is left after a kill, and what the history says of it."""

from __future__ import annotations

import errno
import logging
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import ConfigError, DataError
from anomaly_serve.store import Store
from anomaly_serve.store.housekeeping import Housekeeper
from anomaly_serve.store.images import RESERVE

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def url() -> None:
    """SQLite; the images are the same with PostgreSQL."""


def files(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in (folder / "images").rglob("*") if path.is_file()}


def record(store: Store, judgement: Any, size: int = 100, suffix: str = ".png") -> None:
    store.record(judgement, judgement.id.encode()[-1:] * size, suffix).result()


def kept(store: Store) -> list[int]:
    found = [judgement.id for judgement in store.judgements("tile", limit=1000) if store.image_state(judgement.id) == "kept"]
    assert set(files(store.folder)) == set(found)
    assert store.used_bytes() == sum(files(store.folder).values())
    return sorted(map(int, found))


def test_an_image_is_in_the_folder_of_its_product_and_day(store: Store, judgement: Any) -> None:
    one = judgement(1)
    record(store, one, suffix=".jpg")
    path = store.folder / "images" / "tile" / "2026-05-28" / f"{one.id}.jpg"
    assert path.read_bytes() == b"1" * 100
    assert store.image(one.id) == (b"1" * 100, "image/jpeg")
    assert store.image("0" * 26) is None and store.image_state("0" * 26) is None
    store.record(judgement(2)).result()
    assert store.image(judgement(2).id) is None and store.image_state(judgement(2).id) == "none"
    with pytest.raises(DataError):
        store.record(judgement(3), b"x", "/../x")


def test_the_quota_takes_the_oldest_normals_first_and_misses_and_alarms_last(line: Path, judgement: Any) -> None:
    with Store.open(None, line, quota=1015) as store:
        for number in range(10):  # 0 is an alarm
            record(store, judgement(number, is_anomalous=number in (0, 5, 6)))
        store.mark(judgement(1).id, "missed", "ben")
        store.mark(judgement(2).id, "fine", "ben")
        store.mark(judgement(5).id, "confirmed", "ben")
        store.mark(judgement(6).id, "fine", "ben")
        assert kept(store) == list(range(10))
        # 3, 4, 7, 8, 9: unmarked normals; 2: a normal that was looked at; 5 and 6: alarms that were; 0 and 1: alarm and miss
        order = [3, 4, 7, 8, 9, 2, 5, 6, 0, 1]
        for number in range(10, 20):
            record(store, judgement(number, is_anomalous=True))
            gone = order[: number - 9]
            assert kept(store) == sorted((set(range(10)) - set(gone)) | set(range(10, number + 1)))
            assert all(store.image_state(judgement(old).id) == "quota" for old in gone)
        assert store.count("tile") == 20  # never the rows
        assert store.image(judgement(3).id) is None


def test_a_normal_image_pushes_out_no_alarm(line: Path, judgement: Any, caplog: Any) -> None:
    with Store.open(None, line, quota=250) as store:
        record(store, judgement(1, is_anomalous=True))
        record(store, judgement(2, is_anomalous=True))
        with caplog.at_level(logging.WARNING, "anomaly_core"):
            record(store, judgement(3))
            record(store, judgement(4))
        assert kept(store) == [1, 2]
        assert store.image_state(judgement(3).id) == "quota"
        assert [record.levelname for record in caplog.records] == ["WARNING"]  # said once
        record(store, judgement(5), size=251)
        record(store, judgement(6), size=50)
        assert kept(store) == [1, 2, 6]


def test_a_batch_greater_than_the_quota_keeps_what_fits(line: Path, judgement: Any) -> None:
    with Store.open(None, line, quota=1050) as store:
        for future in store.record_many([(judgement(number), bytes(100), ".png") for number in range(1, 30)]):
            future.result()
        assert len(kept(store)) == 10
        assert store.count("tile") == 29


def test_a_batch_with_one_alarm_spares_older_alarms(line: Path, judgement: Any) -> None:
    with Store.open(None, line, quota=1015) as store:
        for number in range(10):
            record(store, judgement(number, is_anomalous=number < 5))
        batch = [judgement(number, is_anomalous=number == 12) for number in range(10, 18)]
        for future in store.record_many([(each, bytes(100), ".png") for each in batch]):
            future.result()
        assert kept(store)[:5] == [0, 1, 2, 3, 4]
        assert 12 in kept(store)


def test_images_leave_the_last_of_the_disk_to_verdicts(
    line: Path, judgement: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    free = RESERVE + 250
    with Store.open(None, line) as store:

        def usage(_: Path) -> Any:
            return namedtuple("Usage", "free")(free - store.used_bytes())

        monkeypatch.setattr("anomaly_serve.store.images.shutil.disk_usage", usage)
        for number in range(1, 6):
            record(store, judgement(number))
        assert kept(store) == [4, 5]
        free = 0  # another program takes the rest
        record(store, judgement(6))
        assert kept(store) == [] and "almost full" in caplog.text
        assert store.count("tile") == 6


def test_no_quota_keeps_no_image_and_a_lower_one_makes_room(line: Path, judgement: Any) -> None:
    with Store.open(None, line) as store:
        for number in range(1, 6):
            record(store, judgement(number))
    with Store.open(None, line, quota=303) as store:
        assert kept(store) == [3, 4, 5]
    with Store.open(None, line, quota=0) as store:
        record(store, judgement(6))
        assert kept(store) == []
        assert store.image_state(judgement(6).id) == "quota"
        assert store.count("tile") == 6
    with pytest.raises(ConfigError):
        Store.open(None, line, quota=-1)


def test_an_image_that_cannot_be_written_costs_no_verdict(
    store: Store, judgement: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(store._images), "_write", full)
    record(store, judgement(1))
    assert store.image_state(judgement(1).id) == "failed"
    assert "No space left" in caplog.text
    monkeypatch.undo()
    record(store, judgement(2))
    assert kept(store) == [2]


def test_a_verdict_that_is_refused_leaves_no_image(store: Store, judgement: Any) -> None:
    record(store, judgement(1))
    for wrong in (judgement(1), judgement(2, version=7)):
        with pytest.raises(DataError):
            record(store, wrong)
    assert kept(store) == [1]
    assert store.image(judgement(1).id) == (b"1" * 100, "image/png")


def killed(store: Store) -> None:
    """As by kill -9: threads end, nothing is tidied."""
    store._writer.close()
    store._housekeeper.close()
    store._database.close()
    store._closing.pop_all()


def test_after_a_kill_the_rows_and_the_images_agree(store: Store, judgement: Any, caplog: Any) -> None:
    for number in range(1, 6):
        record(store, judgement(number, time=judgement(0).time + 86_400 * (number // 3)))
    paths = {int(path.stem): path for path in (store.folder / "images").rglob("*.png")}
    killed(store)
    paths[1].unlink()  # as after a power cut
    paths[2].write_bytes(b"")
    paths[3].with_stem("7" * 26).write_bytes(b"of a verdict that was not committed")
    with Store.open(None, store.folder) as again:
        assert "did not end in order" in caplog.text and "2 images are lost" in caplog.text
        assert kept(again) == [3, 4, 5]
        assert [again.image_state(judgement(number).id) for number in (1, 2)] == ["lost", "lost"]
        assert again.count("tile") == 5
    caplog.clear()
    with Store.open(None, store.folder) as again:
        assert kept(again) == [3, 4, 5]
    assert not caplog.text


def test_an_image_that_was_damaged_later_is_not_shown(store: Store, judgement: Any, caplog: Any) -> None:
    record(store, judgement(1))
    path = next((store.folder / "images").rglob("*.png"))
    path.write_bytes(bytes(100))
    assert store.image(judgement(1).id) is None
    assert "damaged" in caplog.text
    path.unlink()
    assert store.image(judgement(1).id) is None


def test_images_of_an_earlier_history_are_set_aside(
    store: Store, judgement: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr("anomaly_serve.store.sweeping.MOST", 3)
    record(store, judgement(1))
    for number in range(2, 6):  # as if the database had been put back to where it was before these
        (store.folder / "images" / "tile" / "2026-05-28" / f"{number:026d}.png").write_bytes(b"x")
    killed(store)
    with Store.open(None, store.folder) as again:
        assert kept(again) == [1]
    assert len(list((store.folder / "images-without-verdict").rglob("*.png"))) == 4
    assert "images-without-verdict" in caplog.text


def test_old_verdicts_go_with_their_images(line: Path, judgement: Any, caplog: Any) -> None:
    import time

    with Store.open(None, line, keep_days=2) as store:
        for number in range(300):
            store.record(judgement(number), b"x")
        recent = judgement(300, time=time.time() - 86_400)
        record(store, recent)
        store._housekeeper.round()
        assert store.judgements("tile") == [recent]
        assert kept(store) == [300]
        backups = list((line / "backups").glob("daily-*.db"))
        assert len(backups) == 1
        store._housekeeper.round()
        assert list((line / "backups").glob("daily-*.db")) == backups
    with pytest.raises(ConfigError):
        Store.open(None, line, keep_days=0)


def test_housekeeping_that_fails_is_a_warning(store: Store, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def fail(self: Housekeeper) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Housekeeper, "_back_up", fail)
    store._housekeeper.round()
    assert "the disk is gone" in caplog.text
