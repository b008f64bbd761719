"""A backup is put in the place of a history that is damaged or lost."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import URL, func, select

from anomaly_core import RunError, exclusive, quoted
from anomaly_serve.store.backup import copy_database
from anomaly_serve.store.database import BACKUPS, Database
from anomaly_serve.store.images import KeptImages, place_of
from anomaly_serve.store.revisions import current, migrate, require_known
from anomaly_serve.store.sweeping import sweep
from anomaly_serve.store.tables import judgements

_LOGS = ("", "-wal", "-shm")  # SQLite's write-ahead log and its index belong to the file


class Restored(NamedTuple):
    """What :func:`restore` did.

    Attributes:
        verdicts, until: how many the history has now, and the time of the last one.
        later: images of verdicts that it does not have, which were moved aside.
        former: the database that was there before, if there was one.
    """

    verdicts: int
    until: float | None
    later: int
    former: Path | None


def restore(url: str | None, folder: Path, backup: Path) -> Restored:
    """Let a backup be the history. The former database is kept beside it; no image is deleted.

    Raises:
        RunError: a service runs in the folder, or the backup is none, is damaged or of a newer version; nothing was changed.
    """
    folder, backup = folder.absolute(), backup.absolute()
    database = Database(url, folder)
    if database.path is None:
        raise RunError("a database of PostgreSQL is restored by its own program: pg_restore --clean --dbname NAME FILE")
    require_sound(backup)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder, f"a service runs in {str(folder)!r}. Stop it, and restore again."):
        former = _replace(database.path, backup)
        try:
            migrate(database)
            images = KeptImages(database, folder, place_of(database, folder), 0)
            later = sweep(database, images, aside=True)
            with database.reading() as connection:
                count, until = connection.execute(select(func.count(), func.max(judgements.c.time))).one()
        finally:
            database.close()
    return Restored(count, until, later, former)


def require_sound(backup: Path) -> None:
    """RunError if a file is no sound database of a history, or is of a newer version."""
    if not backup.is_file():
        raise RunError(f"there is no backup {str(backup)!r}. Look into the folder {BACKUPS!r} of the store.")
    try:
        with closing(sqlite3.connect(f"{backup.as_uri()}?mode=ro", uri=True)) as file:
            found = file.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise RunError(f"the backup {str(backup)!r} is damaged or is none: {found}. Choose another one.")
    with closing(_opened(backup)) as copy:
        revision = current(copy)
        if revision is None:
            raise RunError(f"the file {str(backup)!r} is an empty database, and no backup of a history. Choose another one.")
        require_known(copy, revision)


def _opened(backup: Path) -> Database:
    url = URL.create("sqlite", database=str(backup)).render_as_string()  # with what is special in addresses made plain
    return Database(url, backup.parent, writable=False)


def _replace(path: Path, backup: Path) -> Path | None:
    """Put a copy of the backup at the path; where the former database is now."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    part, former = path.with_name(f".{path.name}.restored"), path.with_name(f"{path.stem}-replaced-{stamp}{path.suffix}")
    try:
        part.unlink(missing_ok=True)  # of one that was interrupted
        with closing(_opened(backup)) as source:
            copy_database(source, part)
        existed = path.exists()
        for suffix in _LOGS:  # a log that stayed would be played into the new file
            present = path.with_name(path.name + suffix)
            if present.exists():
                present.replace(former.with_name(former.name + suffix))
        part.replace(path)
    except OSError as error:
        raise RunError(
            f"cannot restore {str(backup)!r}: {error}. See to it, then try again; "
            f"what was there is {quoted(path)} or {quoted(former)}."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return former if existed else None
