"""A history that is only read, beside a service that may be running on it; and whether it is sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select, text

from anomaly_core import RunError
from anomaly_serve.store.backup import copy_database
from anomaly_serve.store.catalogue import Catalogue
from anomaly_serve.store.database import Database
from anomaly_serve.store.diary import Diary
from anomaly_serve.store.export import Export
from anomaly_serve.store.images import KeptImages, place_of
from anomaly_serve.store.revisions import require_current
from anomaly_serve.store.sweeping import compared
from anomaly_serve.store.tables import judgements

_MOST_FAULTS = 20


class Soundness(NamedTuple):
    """What :meth:`Archive.check` found.

    Attributes:
        faults: of the database, in words; none in a sound one.
        verdicts, images, used: how many, and the bytes of the images, by the rows.
        missing: ids of verdicts whose image should be there, and is not as it was written.
        unknown: files of images that no verdict has; of a service that is running, some may be about to get theirs.
    """

    faults: list[str]
    verdicts: int
    images: int
    used: int
    missing: list[str]
    unknown: list[Path]


class Archive(Catalogue, Diary, Export):
    """What of a store is read; whatever would change it is a RunError. Open it with :meth:`opened`."""

    def __init__(self, database: Database, images: KeptImages) -> None:
        self._database, self._images = database, images

    @classmethod
    @contextmanager
    def opened(cls, url: str | None, folder: Path) -> Iterator[Archive]:
        """The history of a store's folder.

        Raises:
            ConfigError: the address is none.
            RunError: there is no history, or it is damaged, another program's, or of another version.
        """
        folder = folder.absolute()
        database = Database(url, folder, writable=False)
        if database.path is not None and not database.path.is_file():
            raise RunError(
                f"there is no history: {str(database.path)!r} does not exist. Give the folder after --store, and "
                "--database URL where the service was given one."
            )
        try:
            require_current(database)
            yield cls(database, KeptImages(database, folder, place_of(database, folder), 0))
        finally:
            database.close()

    def backup(self, target: Path) -> None:
        """As :meth:`Store.backup`."""
        copy_database(self._database, target)

    def check(self) -> Soundness:
        """Look at everything: the database's pages, its references, and each image's size."""
        faults: list[str] = []
        with self._database.reading() as connection:
            if self._database.is_sqlite:
                found = connection.execute(text(f"PRAGMA integrity_check({_MOST_FAULTS})")).scalars().all()
                faults += [str(fault) for fault in found if fault != "ok"]
                for row in connection.execute(text("PRAGMA foreign_key_check")).fetchmany(_MOST_FAULTS):
                    faults.append(f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there")
            verdicts = connection.execute(select(func.count()).select_from(judgements)).scalar_one()
            size = judgements.c.image_size
            images, used = connection.execute(select(func.count(), func.sum(size)).where(self._images.kept)).one()
        missing, unknown = compared(self._database, self._images)
        return Soundness(faults, verdicts, images, int(used or 0), missing, unknown)
