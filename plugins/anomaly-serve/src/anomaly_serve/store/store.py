"""The store: a folder with the history, the kept images and the backups, open in one process at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from anomaly_core import ConfigError, RunError, exclusive
from anomaly_serve.records import Judgement
from anomaly_serve.store.backup import copy_database
from anomaly_serve.store.catalogue import Catalogue
from anomaly_serve.store.database import Database
from anomaly_serve.store.diary import Diary, get_state, put_state
from anomaly_serve.store.export import Export
from anomaly_serve.store.housekeeping import Housekeeper
from anomaly_serve.store.images import KeptImages, place_of
from anomaly_serve.store.revisions import migrate
from anomaly_serve.store.rows import to_row
from anomaly_serve.store.search import Search
from anomaly_serve.store.sweeping import sweep
from anomaly_serve.store.writer import Entry, Writer

QUOTA = 10 * 2**30
log = logging.getLogger("anomaly_core.serve")


class Store(Catalogue, Diary, Export, Search):
    """What the service knows. Thread-safe; every method raises children of AnomalyError.

    Make one by :meth:`open`, end it by :meth:`close` or a ``with`` block.

    Attributes:
        folder: holds ``service.db``, ``images/`` and ``backups/``.
    """

    def __init__(
        self, database: Database, folder: Path, images: KeptImages, closing: ExitStack, keep_days: float | None
    ) -> None:
        self.folder = folder
        self._database, self._images, self._closing = database, images, closing
        self._housekeeper = Housekeeper(database, images, keep_days)
        closing.callback(self._housekeeper.close)
        self._writer = Writer(database, images)
        closing.callback(self._writer.close)

    @classmethod
    def open(cls, url: str | None, folder: Path, quota: int = QUOTA, keep_days: float | None = None) -> Store:
        """Open the store of a folder, made if need be; a database of an older version is brought up to date.

        Args:
            url: of the database, as SQLAlchemy has it; None: SQLite's file ``service.db`` in the folder.
            quota: bytes that kept images may take; 0 keeps none, and removes those that are there.
            keep_days: verdicts that are older go, with their images; None: none does.

        Raises:
            ConfigError: the address, the quota or the days cannot be.
            RunError: another process has the folder, or the database is damaged, another program's or of a newer version.
        """
        if quota < 0:
            raise ConfigError(f"the quota for images cannot be {quota} bytes. Give 0 to keep none.")
        if keep_days is not None and not keep_days > 0:
            raise ConfigError(f"verdicts cannot be kept for {keep_days:g} days. Leave --keep-days out to keep them all.")
        folder = folder.absolute()
        database = Database(url, folder)
        with ExitStack() as closing:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(f"cannot make the folder {str(folder)!r}: {error}. Choose another one.") from error
            closing.enter_context(
                exclusive(
                    folder, f"another process serves from {str(folder)!r}. Stop it, or choose another folder with --store DIR."
                )
            )
            closing.callback(database.close)
            is_new = migrate(database)
            place = place_of(database, folder)
            images = KeptImages(database, folder, place, quota)
            if is_new and images.folder.is_dir():  # somebody removed the database
                sweep(database, images, aside=True)
            closing.enter_context(_swept(database, images, place))
            images.fit()
            return cls(database, folder, images, closing.pop_all(), keep_days)

    def record(self, judgement: Judgement, image: bytes | None = None, suffix: str = ".png") -> Future[None]:
        """Keep a verdict, and its image if there is one. The future ends once the verdict is committed, or with the error.

        Its callbacks run in the thread that writes: let them be short. It cannot be cancelled.

        Args:
            image: the file as it came.
            suffix: of the image's file.

        Raises:
            DataError: the verdict cannot be kept.
            RunError: the store is closed, or the disk does not keep up.
        """
        return self.record_many([(judgement, image, suffix)])[0]

    def record_many(self, judged: Iterable[tuple[Judgement, bytes | None, str]]) -> list[Future[None]]:
        """Keep several verdicts, as :meth:`record` does; they are likely, but not bound, to be committed together."""
        entries = [
            Entry(to_row(judgement, None if image is None else suffix), image, Future()) for judgement, image, suffix in judged
        ]
        self._writer.put(entries)
        return [entry.future for entry in entries]

    def used_bytes(self) -> int:
        """What the kept images take."""
        return self._images.used

    def backup(self, target: Path) -> None:
        """Copy the database to a new file while it is in use; the images are not copied.

        Raises:
            RunError: the file exists or cannot be written; or the database is PostgreSQL's, for which there is pg_dump.
        """
        copy_database(self._database, target)

    def close(self) -> None:
        """Write what waits, and let go of the folder. What is recorded afterwards is refused."""
        self._closing.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@contextmanager
def _swept(database: Database, images: KeptImages, place: str) -> Iterator[None]:
    """Images and rows that agree; a note in the database says that they may not until it is closed in order."""
    key = f"open/{place}"
    with database.reading() as connection:
        killed = get_state(connection, key) is not None
    if killed:
        log.warning("the service did not end in order the last time: its images are compared with the history.")
        sweep(database, images)
    else:
        images.count()
        with database.writing() as connection:
            put_state(connection, key, {"since": time.time()})
    yield
    with database.writing() as connection:
        put_state(connection, key, None)
