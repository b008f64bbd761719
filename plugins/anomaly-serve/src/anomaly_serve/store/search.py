"""The search for a part of a name, which no index answers: it goes back in steps, and ends after a second where it got to."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import func, select
from typing_extensions import Unpack

from anomaly_serve.records import Judgement
from anomaly_serve.store.history import Filters, History
from anomaly_serve.store.tables import judgements as table

SPAN = 100_000  # verdicts of one step: a tenth of a second at most
PATIENCE = 1.0  # seconds after which no further step is taken


class Page(NamedTuple):
    """Some verdicts, the newest first.

    Attributes:
        next: the ``before`` of the page that follows; None if there is none.
        is_cut: whether the search has taken too long, so that older verdicts were not looked at; ``next`` goes on with them.
    """

    judgements: list[Judgement]
    next: str | None
    is_cut: bool = False


class Count(NamedTuple):
    """How many verdicts there are, of those since a moment; None: of all."""

    verdicts: int
    since: float | None


class Search(History):
    """Pages of the history that come in time, however long it is."""

    def page(self, product: str, *, limit: int = 50, before: str | None = None, **filters: Unpack[Filters]) -> Page:
        """As :meth:`judgements`, with what follows; a search for a text ends after about a second."""
        if not filters.get("text"):
            found = self.judgements(product, limit=limit + 1, before=before, **filters)
            return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)
        end, found = time.monotonic() + PATIENCE, []
        since, until = filters.get("since"), filters.get("until")
        if before is not None:
            moment = self._moment(before)
            end_of = moment if self._first_of(product, moment) == before else math.nextafter(moment, math.inf)
            until = end_of if until is None else min(until, end_of)
        for start, stop in self._spans(product, since, until):
            some: Filters = {**filters, "since": start, "until": stop}
            found += self.judgements(product, limit=limit + 1 - len(found), before=before, **some)
            if len(found) > limit:
                return Page(found[:limit], found[limit - 1].id)
            if start != since and time.monotonic() > end:
                return Page(found, self._first_of(product, start), True)
        return Page(found, None)

    def counted(self, product: str, **filters: Unpack[Filters]) -> Count:
        """How many verdicts there are; a search for a text ends after about a second."""
        if not filters.get("text"):
            return Count(self.count(product, **filters), None)
        end, count = time.monotonic() + PATIENCE, 0
        since = filters.get("since")
        for start, stop in self._spans(product, since, filters.get("until")):
            some: Filters = {**filters, "since": start, "until": stop}
            count += self.count(product, **some)
            if start != since and time.monotonic() > end:
                return Count(count, start)
        return Count(count, None)

    def _spans(self, product: str, since: float | None, until: float | None) -> Iterator[tuple[float | None, float | None]]:
        """The time that is asked for, in spans of so many verdicts, the newest first; the last begins with ``since``."""
        query = select(table.c.time).where(table.c.product == product).order_by(table.c.time.desc()).offset(SPAN).limit(1)
        while True:
            with self._database.reading() as connection:
                start = connection.execute(query if until is None else query.where(table.c.time < until)).scalar()
            if start is None or (since is not None and start <= since):
                yield since, until
                return
            yield start, until
            until = start

    def _first_of(self, product: str, moment: float | None) -> str | None:
        """The least id of a moment: before it comes what is older."""
        with self._database.reading() as connection:
            here = (table.c.product == product, table.c.time == moment)
            return connection.execute(select(func.min(table.c.id)).where(*here)).scalar()
