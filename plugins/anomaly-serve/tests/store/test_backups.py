"""Backups while the service runs, one a day by itself, and what a restore keeps."""

from __future__ import annotations

import os
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import RunError
from anomaly_serve.store import Store
from anomaly_serve.store.archive import Archive
from anomaly_serve.store.housekeeping import KEPT_BACKUPS, daily_backup
from anomaly_serve.store.restoring import restore


@pytest.fixture
def url() -> None:
    """SQLite: PostgreSQL has programs of its own, as the errors say."""


def record(store: Store, *judgements: Any) -> None:
    for future in store.record_many([(judgement, b"image", ".png") for judgement in judgements]):
        future.result()


def test_a_backup_while_verdicts_come_is_whole(store: Store, judgement: Any, tmp_path: Path) -> None:
    record(store, judgement(0))
    end = threading.Event()

    def write() -> None:
        number = 1
        while not end.is_set():
            record(store, judgement(number))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            store.backup(tmp_path / f"{number}.db")
    finally:
        end.set()
        writer.join()
    counts = []
    for number in range(5):
        with Archive.opened(f"sqlite:///{tmp_path / f'{number}.db'}", tmp_path) as copy:
            soundness = copy.check()
            assert soundness.faults == []
            counts.append(soundness.verdicts)
    assert 0 < counts[0] <= counts[-1] <= store.count("tile") and counts == sorted(counts)
    assert sorted(path.name for path in tmp_path.glob("*.db*")) == [f"{number}.db" for number in range(5)]  # no log beside
    with pytest.raises(RunError, match="exists already"):
        store.backup(tmp_path / "0.db")


def test_seven_daily_backups_are_kept(store: Store) -> None:
    now = time.time()
    made = []
    for day in range(10):
        made.append(daily_backup(store._database, now + day * 86_400))
        os.utime(made[-1], (now + day * 86_400,) * 2)
        assert daily_backup(store._database, now + day * 86_400 + 3600) is None
    assert sorted((store.folder / "backups").iterdir()) == made[-KEPT_BACKUPS:]


def test_a_disk_that_is_almost_full_gets_no_backup(store: Store, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("anomaly_serve.store.housekeeping.shutil.disk_usage", lambda _: namedtuple("Usage", "free")(10**8))
    store._housekeeper.round()
    assert "almost full: the daily backup is left out" in caplog.text
    assert not (store.folder / "backups").exists()


def test_a_restore_loses_neither_the_damaged_database_nor_later_images(
    store: Store, judgement: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_core.run.files.PATIENCE", 0.1)
    record(store, judgement(1), judgement(2))
    backup = store.folder / "backups" / "mine.db"
    store.backup(backup)
    record(store, judgement(3))
    with pytest.raises(RunError, match="a service runs in"):
        restore(None, store.folder, backup)
    store.close()
    database = store.folder / "service.db"
    database.write_bytes(b"damaged" * 1000)
    done = restore(None, store.folder, backup)
    assert (done.verdicts, done.until, done.later) == (2, judgement(2).time, 1)
    assert done.former is not None and done.former.read_bytes() == b"damaged" * 1000
    later = list((store.folder / "images-without-verdict").rglob("*.png"))
    assert [path.stem for path in later] == [judgement(3).id]
    with Store.open(None, store.folder) as again:
        assert again.used_bytes() == 10
        assert again.image(judgement(2).id) is not None
        record(again, judgement(3))
    with Archive.opened(None, store.folder) as archive:
        assert archive.check() == ([], 3, 3, 15, [], [])


@pytest.mark.parametrize("what", ["missing", "empty", "text", "cut", "newer"])
def test_what_is_no_backup_changes_nothing(store: Store, judgement: Any, tmp_path: Path, what: str) -> None:
    record(store, *(judgement(number) for number in range(50)))
    source = tmp_path / "backup.db"
    store.backup(source)
    store.close()
    if what == "newer":
        import sqlite3

        with sqlite3.connect(source) as file:
            file.execute("UPDATE anomaly_revision SET version_num = '0999'")
        file.close()
    else:
        content = {"missing": None, "empty": b"", "text": b"text " * 999, "cut": source.read_bytes()[:20_000]}[what]
        source.unlink() if content is None else source.write_bytes(content)
    before = (store.folder / "service.db").read_bytes()
    with pytest.raises(RunError, match="newer version" if what == "newer" else str(source)):
        restore(None, store.folder, source)
    assert (store.folder / "service.db").read_bytes() == before
    with Store.open(None, store.folder) as again:
        assert again.count("tile") == 50


def test_images_without_a_database_are_set_aside(store: Store, judgement: Any, caplog: Any) -> None:
    record(store, judgement(1))
    store.close()
    (store.folder / "service.db").unlink()
    with Store.open(None, store.folder) as again:
        assert again.used_bytes() == 0 and again.products() == []
    assert len(list((store.folder / "images-without-verdict").rglob("*.png"))) == 1
    assert "images-without-verdict" in caplog.text


def test_postgresql_says_whose_task_it_is(postgresql: Any, tmp_path: Path) -> None:
    url = postgresql("prepared")
    with Store.open(url, tmp_path) as store, pytest.raises(RunError, match="pg_dump"):
        store.backup(tmp_path / "x.db")
    with pytest.raises(RunError, match="pg_restore"):
        restore(url, tmp_path, tmp_path / "x.db")
