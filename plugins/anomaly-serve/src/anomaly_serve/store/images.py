"""Kept images: a file each, within a quota of bytes. A row of the history says which are there, and why one is not."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from anomaly_core import folder_name, write_whole
from anomaly_serve.store.database import Database
from anomaly_serve.store.tables import judgements as table

FOLDER = "images"
PLACE = "place"  # the file that names the folder in a database that several services share
_SLACK = 100  # one part in so many of the quota is freed at a time, so that not every image needs room to be made
RESERVE = 256 * 2**20  # bytes of the disk that images leave free: half a million verdicts fit
_SILENCE = 3600.0  # seconds between two warnings of a kind
_PORTION = 500  # rows that one transaction changes
_LAST = 3  # rank of alarms and misses: their images are flushed to disk before the verdict is answered
log = logging.getLogger("anomaly_core.serve")


class KeptImages:
    """The images on disk: ``images/<product>/<yyyy-mm-dd>/<id><suffix>``, of the day (UTC) in which they came.

    Durability: a file is written before its row is committed, so a killed process leaves at most files without a row, which
    :func:`~anomaly_serve.store.sweeping.sweep` removes. Images of alarms and misses are flushed to disk first; a power cut may
    take the last seconds of the others, which their checksum shows. When room is made, rows are changed before files go. The
    last bytes of the disk (:data:`RESERVE`) are left to verdicts.

    Args:
        place: names this folder in the rows, where several services share a database.
        quota: bytes that the files may take in all; 0 keeps none.

    Attributes:
        used: bytes that they take now.
    """

    def __init__(self, database: Database, folder: Path, place: str, quota: int) -> None:
        self._database, self._place = database, place
        self.folder = folder / FOLDER
        self.quota = quota
        self.used = 0
        self.kept = and_(table.c.image_size > 0, table.c.place == place)
        self._changing = threading.RLock()
        self._stuck: list[tuple[Path, int]] = []  # files that another program holds open, as Windows does
        self._said: dict[str, float] = {}

    def count(self) -> None:
        """Find out what is used, from the rows."""
        with self._database.reading() as connection:
            self.used = int(connection.execute(select(func.sum(table.c.image_size)).where(self.kept)).scalar() or 0)

    def path(self, identity: str, product: str, moment: float, suffix: str) -> Path:
        """Where an image is, or would be."""
        day = time.strftime("%Y-%m-%d", time.gmtime(moment))
        return self.folder / folder_name(product) / day / f"{identity}{suffix}"

    def keep(self, rows: list[dict[str, Any]], images: list[bytes | None]) -> None:
        """Write the images of rows that are about to be committed, and note in the rows what became of each."""
        with self._changing:
            self._keep(rows, images)

    def _keep(self, rows: list[dict[str, Any]], images: list[bytes | None]) -> None:
        waiting = Counter[int]()  # rank -> bytes that may yet be written
        for row, image in zip(rows, images, strict=True):
            row["place"] = self._place
            waiting[row["rank"]] += 0 if image is None else len(image)
        for row, image in zip(rows, images, strict=True):
            if image is None:
                continue
            limit = self._limit()
            if self.used + len(image) > limit:
                self._make_room(waiting[row["rank"]], row["rank"], limit)
            waiting[row["rank"]] -= len(image)
            if self.used + len(image) > self._limit():
                row["image_gone"] = "quota"
                self._say_full()
                continue
            try:
                self._write(self._path_of(row), image, flush=row["rank"] == _LAST)
            except OSError as error:
                row["image_gone"] = "failed"
                self._warn("an image is not kept: %s. Its verdict goes on without it.", error)
                continue
            row["image_size"], row["image_crc"] = len(image), zlib.crc32(image)
            self.used += len(image)

    def _limit(self) -> int:
        """Bytes that images may take at this moment: the quota, or what leaves space for verdicts on a disk that gets full."""
        if not self.quota:
            return 0
        try:
            free = shutil.disk_usage(self.folder.parent).free
        except OSError:  # the write that follows says what is wrong
            return self.quota
        return min(self.quota, max(self.used + free - RESERVE, 0))

    def discard(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take back the images of rows that were not committed."""
        with self._changing:
            for row in rows:
                if row["image_size"]:
                    self._remove(self._path_of(row), row["image_size"])
                row.update(image_size=0, image_crc=None, image_gone=None)

    def forget(self, rows: Iterable[Any]) -> None:
        """Remove the images of rows that are in the history no more."""
        with self._changing:
            for row in rows:
                if row.image_size and row.place == self._place:
                    self._remove(self.path(row.id, row.product, row.time, row.suffix), row.image_size)

    def fit(self) -> None:
        """Remove what exceeds the quota, such as after it was lowered."""
        with self._changing:
            if self.used > self.quota:
                self._make_room(0, _LAST, self.quota)

    def read(self, row: Any) -> bytes | None:
        """The image of a row; None if it has none, or if the file is not what was written."""
        if not row.image_size or row.place != self._place:
            return None
        try:
            content = self.path(row.id, row.product, row.time, row.suffix).read_bytes()
        except OSError as error:
            log.warning("the image of verdict %s cannot be read: %s", row.id, error.strerror)
            return None
        if len(content) == row.image_size and zlib.crc32(content) == row.image_crc:
            return content
        log.warning("the image of verdict %s is damaged, as after a power cut.", row.id)
        return None

    def _path_of(self, row: dict[str, Any]) -> Path:
        return self.path(row["id"], row["product"], row["time"], row["suffix"])

    def _write(self, path: Path, content: bytes, *, flush: bool) -> None:
        try:
            file = path.open("xb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        try:
            with file:
                file.write(content)
                if flush:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise

    def _make_room(self, needed: int, rank: int, limit: int) -> None:
        """Remove images that go before one of ``rank``, until ``needed`` bytes and a little more fit below ``limit``."""
        self._retry_stuck()
        bound = max(limit - needed - limit // _SLACK, 0)
        while self.used > bound:
            with self._database.writing() as connection:
                victims = self._victims(connection, self.used - bound, rank)
                gone(connection, [victim.id for victim in victims], "quota")
            if not victims:
                return
            for victim in victims:
                self._remove(self.path(victim.id, victim.product, victim.time, victim.suffix), victim.image_size)

    def _victims(self, connection: Connection, excess: int, rank: int) -> list[Any]:
        columns = (table.c.id, table.c.product, table.c.time, table.c.suffix, table.c.image_size)
        query = select(*columns).where(self.kept, table.c.rank <= rank).order_by(table.c.rank, table.c.time).limit(_PORTION)
        victims: list[Any] = []
        for victim in connection.execute(query):
            if excess <= 0:
                break
            victims.append(victim)
            excess -= victim.image_size
        return victims

    def _remove(self, path: Path, size: int) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            self._stuck.append((path, size))
            return
        self.used -= size

    def _retry_stuck(self) -> None:
        stuck, self._stuck = self._stuck, []
        for path, size in stuck:
            self._remove(path, size)

    def _say_full(self) -> None:
        if not self.quota:
            return
        if self._limit() < self.quota:
            self._warn("the disk is almost full: images are not kept, so that verdicts can be. Free some space.")
        else:
            self._warn(
                "the quota of %d bytes for images is full of alarms and misses: other images are not kept. Look at the alarms, "
                "as those that were looked at go before the others, or raise --quota.",
                self.quota,
            )

    def _warn(self, message: str, *facts: Any) -> None:
        """At most once in a while: a line judges several images a second."""
        now = time.monotonic()
        if now - self._said.get(message, -_SILENCE) >= _SILENCE:
            self._said[message] = now
            log.warning(message, *facts)


def place_of(database: Database, folder: Path) -> str:
    """What names a store's folder in the rows: nothing for a file of SQLite, which belongs to one folder; else by chance."""
    if database.is_sqlite:
        return ""
    path = folder / PLACE
    if not path.is_file():
        write_whole(path, secrets.token_hex(4).encode(), "Free some space or choose another folder.")
    return path.read_text(encoding="ascii").strip()


def gone(connection: Connection, identities: list[str], why: str) -> None:
    """Note that images are there no more."""
    for start in range(0, len(identities), _PORTION):
        portion = identities[start : start + _PORTION]
        change = update(table).where(table.c.id.in_(portion)).values(image_size=0, image_crc=None, image_gone=why)
        connection.execute(change)
