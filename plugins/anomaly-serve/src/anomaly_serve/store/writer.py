"""One thread writes verdicts: those that come while it commits wait, and are committed together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Any, NamedTuple

from anomaly_core import DataError, RunError
from anomaly_serve.store.database import Database, Inserter
from anomaly_serve.store.images import KeptImages
from anomaly_serve.store.tables import judgements

MOST_WAITING = 4096  # verdicts
MOST_BYTES = 256 * 2**20  # of images that wait
BATCH = 256  # verdicts in a transaction
PATIENCE = 30.0  # seconds that a caller waits for room
log = logging.getLogger("anomaly_core.serve")


class Entry(NamedTuple):
    """A verdict that waits to be written."""

    row: dict[str, Any]
    image: bytes | None
    future: Future[None]

    @property
    def size(self) -> int:
        return 0 if self.image is None else len(self.image)


class Writer:
    """A bounded queue, and the thread that empties it."""

    def __init__(self, database: Database, images: KeptImages) -> None:
        self._insert, self._images = Inserter(database, judgements), images
        self._waiting: deque[Entry] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="anomaly-history", daemon=True)
        self._thread.start()

    def put(self, entries: list[Entry]) -> None:
        """Let entries be written; waits while too many are waiting.

        Raises:
            RunError: the store is closed, or there was no room for half a minute: the disk does not keep up.
        """
        for entry in entries:
            entry.future.set_running_or_notify_cancel()  # from now on nobody can cancel it
        end = time.monotonic() + PATIENCE
        with self._changed:
            while not self._closed and self._is_full(entries):
                if not self._changed.wait(end - time.monotonic()):
                    raise RunError(
                        f"the history does not keep up: {len(self._waiting)} verdicts wait for the disk. Look at it."
                    )
            if self._closed:
                raise RunError("the history is closed: the service is stopping.")
            self._waiting.extend(entries)
            self._bytes += sum(entry.size for entry in entries)
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _is_full(self, entries: list[Entry]) -> bool:
        """What is greater than the whole room is let in when it is empty."""
        size = sum(entry.size for entry in entries)
        full = len(self._waiting) + len(entries) > MOST_WAITING or self._bytes + size > MOST_BYTES
        return full and bool(self._waiting)

    def _run(self) -> None:
        while batch := self._take():
            self._write(batch)
        self._insert.close()

    def _take(self) -> list[Entry]:
        """The next batch; empty once the store is closed and all is written."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._bytes -= sum(entry.size for entry in batch)
            self._changed.notify_all()
            return batch

    def _write(self, batch: list[Entry]) -> None:
        """Commit a batch, and tell each caller. Where one verdict is refused, the others are written without it."""
        rows = [entry.row for entry in batch]
        try:
            self._images.keep(rows, [entry.image for entry in batch])
            self._insert(rows)
        except Exception as error:  # of whatever kind: somebody waits for it, and the thread must go on
            self._images.discard(rows)
            if isinstance(error, DataError) and len(batch) > 1:
                for entry in batch:
                    self._write([entry])
                return
            for entry in batch:
                entry.future.set_exception(error)
        else:
            for entry in batch:
                entry.future.set_result(None)
