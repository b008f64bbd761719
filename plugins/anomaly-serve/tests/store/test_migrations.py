"""A database of any earlier version is brought up to date with its data; any other is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from anomaly_core import RunError
from anomaly_serve.store import Store
from anomaly_serve.store.database import Database
from anomaly_serve.store.revisions import HEAD, MIGRATIONS, current, migrate
from anomaly_serve.store.tables import VERSION_TABLE, metadata

ROWS = (
    "INSERT INTO products VALUES ('tile', 1.0, 'anna', 1)",
    "INSERT INTO versions VALUES ('tile', 1, '/runs/tile', NULL, 1.0, 'anna', 'first')",
    "INSERT INTO settings VALUES ('tile', 1, 1, "
    '\'{"threshold": 0.5, "false_alarm_rate": 0.2, "count": 0, "source": "by hand"}\', NULL, 1.0, \'anna\', \'\')',
    "INSERT INTO judgements (id, product, version, settings, time, source, name, score, is_anomalous, height, width, "
    "times, facts, image_size, rank, place) VALUES "
    "('00000000000000000000000001', 'tile', 1, 1, 5.0, 'http', 'a', 0.7, true, 4, 6, '{}', '{}', 0, 3, '')",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgresql")()


@pytest.fixture
def opened(url: str | None, tmp_path: Path) -> Any:
    database = Database(url, tmp_path)
    yield database
    database.close()


def test_the_first_revision_is_migrated_with_its_data(opened: Database, url: str | None, tmp_path: Path) -> None:
    migrate(opened, "0001")
    with opened.writing() as connection:
        for row in ROWS:
            connection.execute(text(row))
    assert current(opened) == "0001"
    with Store.open(url, tmp_path) as store:
        assert current(opened) == HEAD
        judgement = store.judgement("0" * 25 + "1")
        assert judgement is not None and (judgement.score, judgement.is_anomalous, judgement.size) == (0.7, True, (4, 6))
        assert store.scores("tile", 1) == [(5.0, 0.7, None, True)]
        assert store.settings("tile", 1)[0].calibration.threshold == 0.5
        active = store.active("tile")
        assert active is not None and active.note == "first"
    copies = list((tmp_path / "backups").glob("*.db"))
    if url is None:
        assert [copy.name[:14] for copy in copies] == ["revision-0001-"]
        with closing(sqlite3.connect(copies[0])) as copy:
            assert copy.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [("0001",)]
            assert copy.execute("SELECT score FROM judgements").fetchall() == [(0.7,)]
    else:
        assert copies == []


def test_the_revisions_make_the_tables_that_the_code_uses(opened: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    migrate(opened)
    with opened.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "target_metadata": metadata}
        )
        assert compare_metadata(context, metadata) == []
        indexes = {index["name"] for index in inspect(connection).get_indexes("judgements")}
    assert indexes == {index.name for index in metadata.tables["judgements"].indexes}


def test_the_last_revision_is_the_one_that_is_asked_for() -> None:
    assert max(path.name for path in MIGRATIONS.glob("versions/r*.py")).startswith(f"r{HEAD}_")


def test_a_newer_database_is_refused_and_left_alone(opened: Database, url: str | None, tmp_path: Path) -> None:
    migrate(opened)
    with opened.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
    with pytest.raises(RunError, match=r"newer version of anomaly-serve: revision 0999.*pip install --upgrade"):
        Store.open(url, tmp_path)
    assert current(opened) == "0999"


@pytest.mark.parametrize("table", ["products", "invoices"])
def test_the_database_of_another_program_is_refused(opened: Database, url: str | None, tmp_path: Path, table: str) -> None:
    with opened.writing() as connection:
        connection.execute(text(f"CREATE TABLE {table} (id INTEGER)"))
    if url is not None and table == "invoices":  # on a server, what has other names is in nobody's way
        Store.open(url, tmp_path).close()
        return
    with pytest.raises(RunError, match=rf"another program's: it has the table '{table}'"):
        Store.open(url, tmp_path)


def test_a_migration_that_fails_changes_nothing(opened: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault in the revision")

    monkeypatch.setattr("alembic.op.create_index", broken)
    with pytest.raises(RuntimeError):
        migrate(opened)
    monkeypatch.undo()
    assert current(opened) is None
    migrate(opened)
    assert current(opened) == HEAD


def test_two_services_that_start_at_once_migrate_once(postgresql: Callable[[], str], tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    address = postgresql()
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda name: Store.open(address, tmp_path / name), ("a", "b")))
    for store in stores:
        assert store.products() == []
        store.close()
