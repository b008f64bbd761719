"""After a kill or a power cut: the images on disk and the rows of the history are made to agree again."""

from __future__ import annotations

import calendar
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from anomaly_serve.store.database import Database
from anomaly_serve.store.images import KeptImages, gone
from anomaly_serve.store.tables import judgements as table

ASIDE = "images-without-verdict"
MOST = 1000  # files without a row that a killed process can leave: those of a batch, and those that were being removed
_RANKS = range(4)
_DAY = 86_400
_PORTION = 500  # rows that one transaction changes
log = logging.getLogger("anomaly_core.serve")


def sweep(database: Database, images: KeptImages, *, aside: bool = False) -> int:
    """Note the images that are lost, and remove files that no row knows of: their verdicts were never answered.

    More of those than a killed process leaves come from a database that was put back to an earlier state; they are moved to
    ``images-without-verdict/``, and a warning says so.

    Args:
        aside: move all of them.

    Returns:
        how many files no row knew of.
    """
    missing, strays = compared(database, images)
    for start in range(0, len(missing), _PORTION):
        with database.writing() as connection:
            gone(connection, missing[start : start + _PORTION], "lost")
    if missing:
        log.warning("%d images are lost or damaged, as after a power cut; their verdicts are not.", len(missing))
    if aside or len(strays) > MOST:
        _move_aside(images, strays)
    else:
        for stray in strays:
            with suppress(OSError):  # removed the next time
                stray.unlink()
    images.count()
    return len(strays)


def compared(database: Database, images: KeptImages) -> tuple[list[str], list[Path]]:
    """The ids whose image is missing or of another size, and the files that no row says are kept; read day by day."""
    missing: list[str] = []
    unknown: list[Path] = []
    for day in _days(database, images):
        some, others = _compared(database, images, day)
        missing += some
        unknown += others
    return missing, unknown


def _days(database: Database, images: KeptImages) -> list[int]:
    """Days since 1970 that have images, on disk or by the rows."""
    days = set()
    for folder in images.folder.glob("*/????-??-??"):
        with suppress(ValueError):  # not one of ours
            days.add(calendar.timegm(time.strptime(folder.name, "%Y-%m-%d")) // _DAY)
    for rank in _RANKS:  # for each, the index knows the next moment at once
        query = select(func.min(table.c.time)).where(images.kept, table.c.rank == rank)
        with database.reading() as connection:
            moment = connection.execute(query).scalar()
            while moment is not None:
                days.add(day := int(moment // _DAY))
                moment = connection.execute(query.where(table.c.time >= (day + 1) * _DAY)).scalar()
    return sorted(days)


def _compared(database: Database, images: KeptImages, day: int) -> tuple[list[str], list[Path]]:
    sizes: dict[Path, int] = {}
    for folder in images.folder.glob(f"*/{time.strftime('%Y-%m-%d', time.gmtime(day * _DAY))}"):
        with os.scandir(folder) as entries:
            sizes |= {Path(entry.path): entry.stat().st_size for entry in entries}
    columns = (table.c.id, table.c.product, table.c.time, table.c.suffix, table.c.image_size)
    span = (table.c.rank.in_(_RANKS), table.c.time >= day * _DAY, table.c.time < (day + 1) * _DAY)
    missing = []
    with database.reading() as connection:
        row: Any
        for row in connection.execute(select(*columns).where(images.kept, *span)):
            path = images.path(row.id, row.product, row.time, row.suffix)
            if sizes.get(path) == row.image_size:
                del sizes[path]
            else:
                missing.append(row.id)  # a file of another size is removed with those that no row knows
    return missing, list(sizes)


def _move_aside(images: KeptImages, strays: list[Path]) -> None:
    target = images.folder.with_name(ASIDE)
    for stray in strays:
        place = target / stray.relative_to(images.folder)
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            stray.replace(place)
    if strays:
        log.warning(
            "%d images belong to no verdict of the history, which seems to be an earlier one: they are in %r now. "
            "Delete that folder once you do not need it.",
            len(strays),
            str(target),
        )
