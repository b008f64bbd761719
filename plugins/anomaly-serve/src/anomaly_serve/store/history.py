"""Questions to the history of verdicts, newest first; each is answered by an index, or looks at no more than it must."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, func, or_, select, true, update
from typing_extensions import TypedDict, Unpack

from anomaly_core import DataError
from anomaly_serve.records import MARKS, Judgement, Mark
from anomaly_serve.store.database import Database
from anomaly_serve.store.diary import note
from anomaly_serve.store.images import KeptImages
from anomaly_serve.store.rows import rank, to_judgement
from anomaly_serve.store.tables import judgements as table

_ID_LENGTH = 26
_PAGE = 1000  # rows that one query of :meth:`History.each` reads: a long one would keep SQLite's log from shrinking
ImageState = Literal["kept", "none", "quota", "failed", "lost"]
"""Kept; never given to be kept; no room within the quota; could not be written; not there any more, as after a power cut."""


class Filters(TypedDict, total=False):
    """Which verdicts; those that fulfil all that is given and not None.

    Attributes:
        is_anomalous: the verdict.
        mark: what a person said; ``any`` or ``none``: whether somebody did.
        version: the number.
        since, until: seconds since 1970; ``since`` itself is in, ``until`` is not.
        text: a part of the name, in any case (SQLite: of the letters A to Z); or a whole id, which finds that verdict alone.
        least_p, most_p: bounds of the p-value, both in.
    """

    is_anomalous: bool | None
    mark: Mark | Literal["any", "none"] | None
    version: int | None
    since: float | None
    until: float | None
    text: str | None
    least_p: float | None
    most_p: float | None


class Score(NamedTuple):
    """A point of a distribution of scores."""

    time: float
    score: float
    p_value: float | None
    is_anomalous: bool | None


class Day(NamedTuple):
    """What happened in a day.

    Attributes:
        images: all verdicts.
        alarms: how many were anomalous.
        confirmed, fine, missed: how many have that mark now.
    """

    day: date
    images: int
    alarms: int
    confirmed: int
    fine: int
    missed: int


class History:
    """The part of the store that answers what was judged."""

    _database: Database
    _images: KeptImages

    def judgement(self, identity: str) -> Judgement | None:
        """One verdict; None if there is none with this id."""
        row = self._row(identity)
        return None if row is None else to_judgement(row)

    def judgements(
        self, product: str, *, limit: int = 50, before: str | None = None, **filters: Unpack[Filters]
    ) -> list[Judgement]:
        """A page of verdicts, newest first.

        Args:
            limit: verdicts in the page.
            before: the id of the last verdict of the page before.
            filters: see :class:`Filters`.
        """
        with self._database.reading() as connection:
            query = select(table).where(*self._conditions(product, filters))
            if before is not None:
                query = query.where(_older(self._moment(before), before))
            query = query.order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)
            return [to_judgement(row) for row in connection.execute(query)]

    def each(self, product: str, **filters: Unpack[Filters]) -> Iterator[Any]:
        """All rows of the table, newest first, page by page: no read lasts for long, and memory stays flat."""
        conditions = self._conditions(product, filters)
        last: Any = None
        while True:
            query = select(table).where(*conditions)
            if last is not None:
                query = query.where(_older(last.time, last.id))
            with self._database.reading() as connection:
                rows = connection.execute(query.order_by(table.c.time.desc(), table.c.id.desc()).limit(_PAGE)).all()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1]

    def count(self, product: str, **filters: Unpack[Filters]) -> int:
        """How many verdicts there are."""
        with self._database.reading() as connection:
            query = select(func.count()).select_from(table).where(*self._conditions(product, filters))
            return int(connection.execute(query).scalar_one())

    def scores(
        self, product: str, version: int | None = None, since: float | None = None, limit: int | None = None
    ) -> list[Score]:
        """Scores by time, newest last.

        Args:
            version: the number; None for those of all versions, which cannot be compared.
            since: seconds since 1970.
            limit: the newest so many.
        """
        columns = (table.c.time, table.c.score, table.c.p_value, table.c.is_anomalous)
        conditions = self._conditions(product, {"version": version, "since": since})
        query = select(*columns).where(*conditions).order_by(table.c.time.desc()).limit(limit)
        with self._database.reading() as connection:
            found = [Score(*row) for row in connection.execute(query)]
        return found[::-1]

    def daily(self, product: str, days: int = 30, zone: tzinfo | None = None) -> list[Day]:
        """The last days with today, oldest first.

        Args:
            days: how many.
            zone: where a day begins at midnight; None: this computer's.
        """
        today = datetime.now(zone).date()
        marks = {name: func.count().filter(table.c.mark == name) for name in MARKS}
        found = []
        with self._database.reading() as connection:
            for day in (today - timedelta(days=ago) for ago in reversed(range(days))):
                conditions = self._conditions(
                    product, {"since": _midnight(day, zone), "until": _midnight(day + timedelta(1), zone)}
                )
                counts = select(func.count(), func.count().filter(table.c.is_anomalous.is_(true()))).where(*conditions)
                images, alarms = connection.execute(counts).one()
                marked = select(*marks.values()).where(*conditions, table.c.mark.in_(MARKS))
                found.append(Day(day, images, alarms, *(connection.execute(marked).one() if images else (0, 0, 0))))
        return found

    def image(self, identity: str) -> tuple[bytes, str] | None:
        """The image of a verdict, as it came, and its media type; None if it is not kept (any more), or without the verdict."""
        row = self._row(identity)
        content = None if row is None else self._images.read(row)
        return None if row is None or content is None else (content, media_type(row.suffix))

    def image_state(self, identity: str) -> ImageState | None:
        """Whether the image of a verdict is kept, and why not; None if there is no verdict with this id."""
        row = self._row(identity)
        return None if row is None else state_of(row)

    def mark(self, identity: str, mark: Mark | None, who: str) -> Judgement:
        """Note what a person says of a verdict; None takes it back. DataError if there is none with this id."""
        if mark is not None and mark not in MARKS:
            raise DataError(f"the mark {mark!r}: expected one of {', '.join(MARKS)}.")
        with self._database.writing() as connection:
            row = connection.execute(select(table).where(table.c.id == identity).with_for_update()).one_or_none()
            if row is None:
                raise _unknown(identity)
            if row.mark != mark:
                values = {"mark": mark, "rank": rank(row.is_anomalous, mark)}
                connection.execute(update(table).where(table.c.id == identity).values(values))
                note(connection, row.product, "mark", {"id": identity, "from": row.mark, "to": mark}, who, identity)
        return to_judgement(row).marked(mark)

    def _conditions(self, product: str, filters: Filters) -> list[ColumnElement[bool]]:
        c, found = table.c, [table.c.product == product]
        if (verdict := filters.get("is_anomalous")) is not None:
            # `IS true` is what the index of alarms is for
            found.append(c.is_anomalous.is_(true()) if verdict else c.is_anomalous.is_(False))
        mark = filters.get("mark")
        if mark in ("any", "none"):
            found.append(c.mark.is_not(None) if mark == "any" else c.mark.is_(None))
        elif mark is not None:
            found.append(c.mark == mark)
        if text := filters.get("text"):
            if len(text) == _ID_LENGTH and self._row(text) is not None:
                found.append(c.id == text)
            else:  # SQLite's LIKE knows no case, and is quicker than that of two lower()
                found.append((c.name.contains if self._database.is_sqlite else c.name.icontains)(text, autoescape=True))
        for value, condition in (
            ("version", c.version.__eq__),
            ("since", c.time.__ge__),
            ("until", c.time.__lt__),
            ("least_p", c.p_value.__ge__),
            ("most_p", c.p_value.__le__),
        ):
            if (bound := filters.get(value)) is not None:
                found.append(condition(bound))
        return found

    def _moment(self, identity: str) -> float:
        row = self._row(identity)
        if row is None:
            raise _unknown(identity)
        return float(row.time)

    def _row(self, identity: str) -> Row[Any] | None:
        with self._database.reading() as connection:
            return connection.execute(select(table).where(table.c.id == identity)).one_or_none()


def state_of(row: Any) -> ImageState:
    """What became of the image of a row."""
    if row.image_size:
        return "kept"
    return "none" if row.suffix is None else row.image_gone


def media_type(suffix: str) -> str:
    """Of an image's suffix."""
    return mimetypes.guess_type(f"image{suffix}", strict=False)[0] or "application/octet-stream"


def _older(moment: float, identity: str) -> ColumnElement[bool]:
    """Of those who came at the same moment, the id decides."""
    return and_(table.c.time <= moment, or_(table.c.time < moment, table.c.id < identity))


def _midnight(day: date, zone: tzinfo | None) -> float:
    if zone is None:
        return time.mktime(day.timetuple())
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _unknown(identity: str) -> DataError:
    return DataError(f"there is no verdict {identity!r} in the history. It may have been removed by --keep-days.")
