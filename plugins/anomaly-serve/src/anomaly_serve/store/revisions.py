"""A database is brought to this version's revision when it is opened, after a copy."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from anomaly_core import RunError
from anomaly_serve.store.backup import copy_database
from anomaly_serve.store.database import BACKUPS, Database
from anomaly_serve.store.tables import VERSION_TABLE, metadata

HEAD = "0004"
MIGRATIONS = Path(__file__).parent / "migrations"
_ONE = threading.Lock()  # alembic keeps what it is doing in a global
_TURN = 5_410_210  # of PostgreSQL's advisory locks: one service migrates at a time


def migrate(database: Database, revision: str = HEAD) -> bool:
    """Create the tables, or change older ones to ``revision``; an older file of SQLite is copied to ``backups/`` first.

    Returns:
        whether the database was empty.

    Raises:
        RunError: the database is of a newer version, another program's, damaged, or cannot be reached.
    """
    present = current(database)
    if present == revision:
        return False
    if present is not None:
        require_known(database, present)
        if database.path:
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            copy_database(database, database.folder / BACKUPS / f"revision-{present}-{stamp}.db")
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
        upgrade(connection, revision)
    return present is None


def current(database: Database) -> str | None:
    """The database's revision; None for an empty one. RunError if it is another program's."""
    with database.reading() as connection:
        tables = set(inspect(connection).get_table_names())
        if VERSION_TABLE in tables:
            found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
            if found is not None:
                return str(found)
    strangers = tables if database.is_sqlite else tables & set(metadata.tables)
    if strangers:
        raise RunError(
            f"the database {database} is another program's: it has the table {min(strangers)!r}, and none of "
            "anomaly's revisions. Give one that is empty, or leave --database out."
        )
    return None


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Run the revisions that the database lacks, in the connection's transaction."""
    from alembic import command  # takes longer to import than to open a store
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ONE:
        command.upgrade(config, revision)


def require_current(database: Database) -> None:
    """RunError if this version cannot read the database without changing it."""
    present = current(database)
    if present is None:
        raise RunError(f"the database {database} is empty: no service has kept its history there. Check the path.")
    if present != HEAD:
        require_known(database, present)
        raise RunError(
            f"the database {database} is of an older version: start `anomaly serve` once, which brings it up to date."
        )


def require_known(database: Database, revision: str) -> None:
    """RunError if a revision is of a newer version than this one."""
    if not any(MIGRATIONS.glob(f"versions/r{revision}_*.py")):
        raise RunError(
            f"the database {database} is of a newer version of anomaly-serve: revision {revision}, and this one knows "
            f"{HEAD}. Update it: pip install --upgrade anomaly-serve"
        )
