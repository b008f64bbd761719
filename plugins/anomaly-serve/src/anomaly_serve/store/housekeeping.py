"""What a store does by itself now and then: a backup a day, and verdicts that are too old go."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, text

from anomaly_core import AnomalyError, RunError
from anomaly_serve.store.backup import copy_database
from anomaly_serve.store.database import BACKUPS, Database
from anomaly_serve.store.images import RESERVE, KeptImages
from anomaly_serve.store.tables import judgements as table
from anomaly_serve.store.tables import products

FIRST, INTERVAL = 60.0, 3600.0  # seconds until the first round, and between two
KEPT_BACKUPS = 7
_DAY = 86_400
_PORTION = 200  # verdicts that one transaction removes: the line waits no longer than for that
log = logging.getLogger("anomaly_core.serve")


class Housekeeper:
    """A thread that makes a round a minute after the start and then every hour; what fails is a warning.

    Args:
        keep_days: verdicts that are older are removed, with their images and marks; None: none is.
    """

    def __init__(self, database: Database, images: KeptImages, keep_days: float | None) -> None:
        self._database, self._images, self._keep_days = database, images, keep_days
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="anomaly-housekeeping", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, after what is going on."""
        self._end.set()
        self._thread.join()

    def round(self) -> None:
        """Do what is due."""
        for task in (self._back_up, self._expire, self._tidy):
            try:
                task()
            except AnomalyError as error:
                log.warning("%s", error)
            except Exception:  # of whatever kind: the next round may go better
                log.exception("the history's housekeeping failed")

    def _run(self) -> None:
        wait = FIRST
        while not self._end.wait(wait):
            self.round()
            wait = INTERVAL

    def _back_up(self) -> None:
        if self._database.is_sqlite:
            daily_backup(self._database, time.time())

    def _expire(self) -> None:
        if self._keep_days is None:
            return
        bound, removed = time.time() - self._keep_days * _DAY, 0
        while not self._end.is_set() and (count := self._expire_some(bound)):
            removed += count
        if removed:
            log.info("%d verdicts that are older than %g days were removed from the history.", removed, self._keep_days)

    def _expire_some(self, bound: float) -> int:
        with self._database.writing() as connection:
            columns = (table.c.id, table.c.product, table.c.time, table.c.suffix, table.c.image_size, table.c.place)
            rows: list[Any] = []
            for name in connection.execute(select(products.c.name)).scalars().all():  # with a name, the index answers
                query = select(*columns).where(table.c.product == name, table.c.time < bound).order_by(table.c.time)
                rows += connection.execute(query.limit(_PORTION - len(rows))).all()
                if len(rows) == _PORTION:
                    break
            connection.execute(delete(table).where(table.c.id.in_([row.id for row in rows])))
        self._images.forget(rows)
        return len(rows)

    def _tidy(self) -> None:
        if self._database.is_sqlite:
            with self._database.writing() as connection:
                connection.execute(text("PRAGMA optimize"))


def daily_backup(database: Database, now: float) -> Path | None:
    """A copy in ``backups/`` unless one of the last 24 hours is there; the oldest of more than seven go."""
    folder = database.folder / BACKUPS
    there = sorted(folder.glob("daily-*.db"))
    if there and 0 <= now - there[-1].stat().st_mtime < _DAY:
        return None
    if database.path and shutil.disk_usage(database.folder).free < database.path.stat().st_size + RESERVE:
        raise RunError(f"the disk of {str(database.folder)!r} is almost full: the daily backup is left out. Free some space.")
    target = folder / f"daily-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}.db"
    copy_database(database, target)
    for old in [*there, target][:-KEPT_BACKUPS]:
        with suppress(OSError):
            old.unlink()
    return target
