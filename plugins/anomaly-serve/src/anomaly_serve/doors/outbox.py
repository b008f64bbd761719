"""What a broker has not acknowledged yet: verdicts, in order, from the history, so that nothing is lost while it is away."""

from __future__ import annotations

import math
import time
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Any

from anomaly_serve.records import Judgement

if TYPE_CHECKING:
    from anomaly_serve.store import Store

MOST = 500  # verdicts in memory, and in a page of the history
OVERLAP = 60.0  # seconds: an image that came earlier may be judged so much later than one that came after it
RECENT = 5000  # acknowledged verdicts that are remembered, so that the overlap is not told again


class Outbox:
    """Verdicts that wait to be told, each at least once, those of a product in the order of their judging.

    New ones come by :meth:`add`. What does not fit into memory, and what was not acknowledged when the process ended, is read
    from the history again, by :meth:`fill`. The store keeps how far each product is. After a kill, verdicts of the last minute
    may be told twice; they have the same id.

    Args:
        store: the history; its state ``key`` is this outbox's.
        key: the name of the state.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._lock = Lock()
        self._waiting: deque[Judgement] = deque()
        self._told: dict[str, Judgement] = {}  # not acknowledged yet
        self._recent: dict[str, tuple[str, float]] = {}  # acknowledged: id -> product, time
        kept = store.state(key) or {}
        self._began: float = kept.get("began", time.time())
        self._since: dict[str, float] = dict(kept.get("since", {}))
        for product, times in kept.get("recent", {}).items():
            self._recent |= {identity: (product, moment) for identity, moment in times.items()}
        self._behind: dict[str, float] = {}  # product -> the time from which the history has what is not here
        self._width: dict[str, float] = {}  # seconds that a page of the history spans
        self._saved: Any = None
        for product in store.products():
            self._behind[product] = self._since.get(product, self._began)
        self.save()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._told)

    @property
    def is_behind(self) -> bool:
        """Whether the history has more."""
        return bool(self._behind)

    def add(self, judgement: Judgement) -> None:
        """A verdict that was just committed."""
        with self._lock:
            product = judgement.product
            if product in self._behind or len(self._waiting) >= MOST:
                self._behind[product] = min(self._behind.get(product, math.inf), judgement.time)
            elif not self._knows(judgement.id):
                self._waiting.append(judgement)

    def fill(self) -> None:
        """Read from the history what is not here, as far as there is room; AnomalyError if the database is away."""
        for product in list(self._behind):
            with self._lock:
                if len(self._waiting) >= MOST // 2:
                    return
                since = self._behind[product]
                self._behind[product] = math.inf  # what comes from now on is later than this page
            try:
                page, rest = self._page(product, since)
            except BaseException:
                with self._lock:
                    self._behind[product] = min(since, self._behind[product])
                raise
            with self._lock:
                waiting = {judgement.id for judgement in self._waiting}
                self._waiting.extend(one for one in page if one.id not in waiting and not self._knows(one.id))
                self._behind[product] = min(rest, self._behind[product])
                if self._behind[product] == math.inf:
                    del self._behind[product]

    def take(self) -> Judgement | None:
        """The next verdict to tell; it is here until it is acknowledged."""
        with self._lock:
            if not self._waiting:
                return None
            judgement = self._waiting.popleft()
            self._told[judgement.id] = judgement
            return judgement

    def acknowledge(self, identity: str) -> None:
        """A verdict was received."""
        with self._lock:
            if (judgement := self._told.pop(identity, None)) is not None:
                self._recent[identity] = judgement.product, judgement.time

    def put_back(self, identity: str) -> None:
        """A verdict was refused, and is told again."""
        with self._lock:
            if (judgement := self._told.pop(identity, None)) is not None:
                self._waiting.appendleft(judgement)

    def save(self) -> None:
        """Keep how far it is, if that has changed; AnomalyError if the database is away."""
        with self._lock:
            open_times: dict[str, float] = dict(self._behind)
            for judgement in (*self._waiting, *self._told.values()):
                open_times[judgement.product] = min(open_times.get(judgement.product, math.inf), judgement.time)
            newest: dict[str, float] = {}
            for product, moment in self._recent.values():
                newest[product] = max(newest.get(product, 0.0), moment)
            for product in {*open_times, *newest}:
                told = max(newest.get(product, 0.0) - OVERLAP, self._since.get(product, self._began))
                self._since[product] = min(told, open_times.get(product, math.inf))
            while len(self._recent) > RECENT:
                identity = next(iter(self._recent))
                product, moment = self._recent.pop(identity)
                if product not in open_times:
                    self._since[product] = max(self._since[product], moment + 1e-6)
            self._recent = {
                identity: (product, moment)
                for identity, (product, moment) in self._recent.items()
                if moment >= self._since.get(product, 0.0)
            }
            recent: dict[str, dict[str, float]] = {}
            for identity, (product, moment) in self._recent.items():
                recent.setdefault(product, {})[identity] = moment
            state = {"began": self._began, "since": dict(self._since), "recent": recent}
        if state != self._saved:
            self._store.keep_state(self._key, state)
            self._saved = state

    def _knows(self, identity: str) -> bool:
        return identity in self._told or identity in self._recent

    def _page(self, product: str, since: float) -> tuple[list[Judgement], float]:
        """Verdicts from a time on, oldest first, about ``MOST``; and the time from which there are more, or infinity."""
        newest = self._store.judgements(product, limit=1)
        if not newest or newest[0].time < since:
            return [], math.inf
        width = self._width.get(product, 60.0)

        def count() -> int:
            return self._store.count(product, since=since, until=since + width)

        while since + width <= newest[0].time and count() < MOST // 4:
            width *= 2
        while width > 1e-3 and count() > MOST:  # and never wider again: many may have come at once, after a pause
            width /= 2
        until = since + width
        self._width[product] = width
        page = self._store.judgements(product, since=since, until=until, limit=max(count(), 1))
        return page[::-1], until if until <= newest[0].time else math.inf
