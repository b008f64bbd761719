"""Kept images that people marked since the newest version was made: they wait for the next one."""

from __future__ import annotations

import threading
from typing import Any

_MOST = 1000  # changes that are looked at


class Waiting:
    """Counts them again only when something has changed, as every open page asks each second; thread-safe."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._counted: dict[str, tuple[tuple[Any, ...], dict[str, int]]] = {}
        self._lock = threading.Lock()

    def of(self, product: str) -> dict[str, int]:
        """How many are ``fine``, and how many are ``defects``: missed ones, and alarms that were confirmed."""
        newest, versions = self._store.changes(product, limit=1), self._store.versions(product)
        since = versions[-1].created if versions else 0.0
        state = (newest[0] if newest else None, since)
        with self._lock:
            before, counts = self._counted.get(product, ((), {}))
            if before != state:
                counts = self._count(product, since)
                self._counted[product] = (state, counts)
            return counts

    def _count(self, product: str, since: float) -> dict[str, int]:
        said: dict[str, str | None] = {}
        for change in self._store.changes(product, limit=_MOST):  # the newest first
            if change.time < since:
                break
            if change.action == "mark":
                said.setdefault(change.facts["id"], change.facts["to"])
        counts = {"fine": 0, "defects": 0}
        for identity, mark in said.items():
            if mark is None or self._store.image_state(identity) != "kept":  # a version is taught from images
                continue
            if mark == "confirmed":
                judgement = self._store.judgement(identity)
                counts["defects"] += judgement is not None and bool(judgement.is_anomalous)
            else:
                counts["fine" if mark == "fine" else "defects"] += 1
        return counts
