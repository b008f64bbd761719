"""The history as CSV: every verdict with its version and threshold, who set that, and who said what of the verdict."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from sqlalchemy import select
from typing_extensions import Unpack

from anomaly_core import SafeWriter
from anomaly_serve.store.history import Filters, History, state_of
from anomaly_serve.store.tables import changes, settings

COLUMNS = (
    "time id product name source verdict score threshold p_value version settings threshold_by threshold_why "
    "mark marked_by marked_at regions height width image"
).split()
CHANGES = ("time", "who", "product", "action", "facts")
_PORTION = 500  # verdicts of one piece of text
_VERDICTS = {True: "anomalous", False: "normal", None: ""}


class Export(History):
    """The part of the store that writes the history out."""

    def export_csv(self, product: str, **filters: Unpack[Filters]) -> Iterator[str]:
        """Lines of CSV, newest verdict first, after a line of :data:`COLUMNS`; in pieces, so that memory stays flat.

        Times are UTC. Text that a spreadsheet would take for a formula is made harmless. ``threshold_by`` and
        ``threshold_why`` are those of the settings that held. See :class:`Filters` for what can be asked for.
        """
        yield _lines([COLUMNS])
        rows = self.each(product, **filters)
        while portion := list(islice(rows, _PORTION)):
            by, marks = self._settings_of(portion), self._marks_of(portion)
            yield _lines([_cells(row, by[row.version, row.settings], marks.get(row.id)) for row in portion])

    def export_changes(self, product: str) -> Iterator[str]:
        """Lines of CSV, newest change first: who changed what, and when (UTC). In pieces, as :meth:`export_csv`."""
        yield _lines([CHANGES])
        here, last = changes.c.product == product, None
        while True:
            query = select(changes).where(here).order_by(changes.c.id.desc()).limit(_PORTION)
            with self._database.reading() as connection:
                rows = connection.execute(query if last is None else query.where(changes.c.id < last)).all()
            if not rows:
                return
            last = rows[-1].id
            yield _lines([_time(row.time), row.who, row.product, row.action, row.facts] for row in rows)

    def _settings_of(self, rows: list[Any]) -> dict[tuple[int, int], Any]:
        """(version, number) -> who set the settings of these rows, and why."""
        here = (settings.c.product == rows[0].product, settings.c.version.in_({row.version for row in rows}))
        query = select(settings.c.version, settings.c.number, settings.c.who, settings.c.why).where(*here)
        with self._database.reading() as connection:
            return {(row.version, row.number): row for row in connection.execute(query)}

    def _marks_of(self, rows: list[Any]) -> dict[str, Any]:
        """id -> who marked it last, and when."""
        marked = [row.id for row in rows if row.mark is not None]
        if not marked:
            return {}
        query = select(changes.c.subject, changes.c.who, changes.c.time).where(changes.c.subject.in_(marked))
        with self._database.reading() as connection:
            return {row.subject: row for row in connection.execute(query.order_by(changes.c.id))}


def _cells(row: Any, by: Any, mark: Any) -> list[Any]:
    image = state_of(row)
    return [
        _time(row.time),
        row.id,
        row.product,
        row.name,
        row.source,
        _VERDICTS[row.is_anomalous],
        row.score,
        row.threshold,
        row.p_value,
        row.version,
        row.settings,
        by.who,
        by.why,
        row.mark,
        mark.who if mark else None,
        _time(mark.time) if mark else None,
        None if row.regions is None else len(json.loads(row.regions)),
        row.height,
        row.width,
        image,
    ]


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines(rows: Any) -> str:
    text = io.StringIO()
    writer = SafeWriter(text)
    for row in rows:
        writer.writerow(row)
    return text.getvalue()
