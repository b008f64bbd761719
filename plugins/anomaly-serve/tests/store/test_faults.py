"""Faults of the disk and of the database: one clear error, and afterwards it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anomaly_core import ConfigError, RunError
from anomaly_serve.store import Store


@pytest.fixture
def url() -> None:
    """SQLite, unless a test says otherwise."""


def test_a_second_process_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly_core.run.files.PATIENCE", 0.1)
    with pytest.raises(RunError, match=r"another process serves from .* Stop it"):
        Store.open(None, store.folder)


def test_a_full_disk_is_an_error_and_afterwards_it_goes_on(line: Path, judgement: Any) -> None:
    with Store.open(None, line) as store:
        with store._database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit = f"PRAGMA max_page_count={pages + 3}"
        for connection in [store._database.engine.connect() for _ in range(3)]:  # those that the pool has
            connection.exec_driver_sql(limit)
            connection.close()
        answered, refused = [], []
        for number in range(300):
            one = judgement(number, facts={f"fact {n}": 1.0 for n in range(30)})
            error = store.record(one, b"x").exception()
            (answered if error is None else refused).append(number)
            if len(refused) == 3:
                assert isinstance(error, RunError) and "Free some space" in str(error)
                break
        assert answered and len(refused) == 3
        assert store.used_bytes() == len(answered) == len(list((line / "images").rglob("*.png")))
        store._database.engine.dispose()  # new connections have no limit: there is space again
        store.record(judgement(1000)).result()
        assert sorted(int(row.id) for row in store.each("tile")) == [*answered, 1000]


def test_the_log_stays_small_though_somebody_reads_for_long(line: Path, judgement: Any) -> None:
    with Store.open(None, line) as store:
        rows = None
        for start in range(0, 12_000, 2000):
            numbers = range(start, start + 2000)
            store.record_many([(judgement(number), None, ".png") for number in numbers])[-1].result()
            rows = rows or store.each("tile")
            next(rows)  # as one who downloads a table slowly does
        assert (line / "service.db-wal").stat().st_size < 5 * 2**20  # 6.8 MiB when one read lasts all the time


def test_connections_that_a_server_ended_are_made_again(postgresql: Any, tmp_path: Path, fill: Any, judgement: Any) -> None:
    with Store.open(postgresql("prepared"), tmp_path) as store:
        fill(store).record(judgement(1)).result()
        with store._database.engine.connect() as connection:  # as a restart of the server does
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
            connection.exec_driver_sql(others + "pg_backend_pid()")
            connection.exec_driver_sql("SELECT 1")
        store.record(judgement(2)).result()
        assert store.count("tile") == 2


def test_what_comes_after_the_end_is_refused(line: Path, judgement: Any) -> None:
    store = Store.open(None, line)
    store.close()
    with pytest.raises(RunError, match="closed"):
        store.record(judgement(1))
    store.close()  # a second time does nothing


def test_a_database_that_is_damaged_names_the_backup(line: Path) -> None:
    with Store.open(None, line) as store:
        store.backup(line / "backups" / "mine.db")
    (line / "service.db").write_bytes(b"this is no database, " * 100)
    with pytest.raises(RunError, match=r"damaged.*anomaly history restore .*mine\.db"):
        Store.open(None, line)


def test_a_database_that_cannot_be_reached_is_one_error(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(RunError, match="Check the address") as caught:
        Store.open(f"postgresql://me:secret@/line?host={tmp_path}", tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_an_address_that_keeps_nothing_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="--database"):
        Store.open(url, tmp_path)


def test_the_file_can_be_elsewhere(tmp_path: Path, fill: Any, judgement: Any) -> None:
    elsewhere = tmp_path / "fast disk"
    elsewhere.mkdir()
    with Store.open(f"sqlite:///{elsewhere / 'line.db'}", tmp_path / "line") as store:
        fill(store).record(judgement(1), b"x").result()
        store.backup(tmp_path / "line" / "backups" / "mine.db")
    assert (elsewhere / "line.db").exists() and not (tmp_path / "line" / "service.db").exists()
    assert len(list((tmp_path / "line" / "images").rglob("*.png"))) == 1
    (elsewhere / "line.db").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"history restore .*line.*mine\.db --database .*fast disk/line\.db"):
        Store.open(f"sqlite:///{elsewhere / 'line.db'}", tmp_path / "line")
