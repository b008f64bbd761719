"""Backups of the database while it is in use, one a day by itself, and what is there to restore."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from anomaly_core import RunError
from anomaly_serve.store.database import Database


def copy_database(database: Database, target: Path) -> None:
    """A consistent copy of SQLite's file, while others read and write it: ``target`` is there whole, or not at all.

    Raises:
        RunError: the database is PostgreSQL's, the target exists, cannot be written, or the copy is not sound.
    """
    if database.path is None:
        raise RunError("a database of PostgreSQL is backed up by its own program: pg_dump --format=custom --file FILE NAME")
    if target.exists():
        raise RunError(f"{str(target)!r} exists already: give another name for the backup.")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(database.path)) as source, closing(sqlite3.connect(part)) as copy:
            source.execute("PRAGMA query_only=ON")
            source.backup(copy)  # in one step: readers block no writer, and a copy in steps begins anew at each write
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise RunError(f"the database {database} is damaged: {found}. {database.rescue()}")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except sqlite3.DatabaseError as error:
        damaged = any(word in str(error) for word in ("malformed", "not a database"))
        advice = database.rescue() if damaged else "Free some space, or write elsewhere."
        raise RunError(f"cannot copy the database {database} to {str(target)!r}: {error}. {advice}") from error
    except OSError as error:
        raise RunError(
            f"cannot write the backup {str(target)!r}: {error}. Free some space or choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)
