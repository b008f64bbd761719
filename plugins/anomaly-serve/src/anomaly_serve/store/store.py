"""The store: a folder with the history, the kept images and the backups, open in one process at a time."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from anomaly_core import ConfigError, RunError, exclusive, write_whole
from anomaly_serve.records import Judgement
from anomaly_serve.store.backup import copy_database
from anomaly_serve.store.catalogue import Catalogue
from anomaly_serve.store.database import Database
from anomaly_serve.store.diary import Diary
from anomaly_serve.store.history import History
from anomaly_serve.store.images import KeptImages
from anomaly_serve.store.revisions import migrate
from anomaly_serve.store.rows import to_row
from anomaly_serve.store.writer import Entry, Writer

QUOTA = 10 * 2**30
PLACE = "place"  # the file that holds the folder's name in a database that several services share


class Store(Catalogue, Diary, History):
    """What the service knows. Thread-safe; every method raises children of AnomalyError.

    Make one by :meth:`open`, end it by :meth:`close` or a ``with`` block.

    Attributes:
        folder: holds ``service.db``, ``images/`` and ``backups/``.
    """

    def __init__(self, database: Database, folder: Path, images: KeptImages, closing: ExitStack) -> None:
        self.folder = folder
        self._database, self._images, self._closing = database, images, closing
        self._writer = Writer(database, images)
        closing.callback(self._writer.close)

    @classmethod
    def open(cls, url: str | None, folder: Path, quota: int = QUOTA) -> Store:
        """Open the store of a folder, made if need be; a database of an older version is brought up to date.

        Args:
            url: of the database, as SQLAlchemy has it; None: SQLite's file ``service.db`` in the folder.
            quota: bytes that kept images may take; 0 keeps none.

        Raises:
            ConfigError: the address or the quota is none.
            RunError: another process has the folder, or the database is damaged, another program's or of a newer version.
        """
        if quota < 0:
            raise ConfigError(f"the quota for images cannot be {quota} bytes. Give 0 to keep none.")
        folder = folder.absolute()
        database = Database(url, folder)
        with ExitStack() as closing:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(f"cannot make the folder {str(folder)!r}: {error}. Choose another one.") from error
            closing.enter_context(
                exclusive(folder, f"another process serves from {str(folder)!r}. Stop it, or choose another folder.")
            )
            closing.callback(database.close)
            migrate(database)
            images = KeptImages(database, folder, "" if database.is_sqlite else _place(folder), quota)
            images.count()
            return cls(database, folder, images, closing.pop_all())

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


def _place(folder: Path) -> str:
    path = folder / PLACE
    if not path.is_file():
        write_whole(path, secrets.token_hex(4).encode(), "Free some space or choose another folder.")
    return path.read_text(encoding="ascii").strip()
