"""The record of what was tried against the project and what was lost, for docs/reliability.md; every test folder shares it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anomaly_core.registry import registry

Record = Callable[..., None]


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Note a row of docs/reliability.md: ``record(kind, what, count, lost, seed)``, after the asserts.

    Args of what it gives:
        kind: the table it stands in: ``fault``, ``input``, ``security``, ``determinism`` or ``load``.
        what: was done, in words.
        count: how often.
        lost: what was lost, in words; ``nothing``.
        seed: repeats it; None where nothing is random.

    It is kept where ANOMALY_RELIABILITY names a file, as `make soak` does, and dropped otherwise.
    """

    def note(kind: str, what: str, count: int = 1, lost: str = "nothing", seed: int | None = None) -> None:
        target = os.environ.get("ANOMALY_RELIABILITY")
        if target:
            row = {"kind": kind, "what": what, "count": count, "lost": lost, "seed": seed, "test": request.node.nodeid}
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            with Path(target).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return note


@pytest.fixture(autouse=True)
def nothing_stays_blocked() -> Iterator[None]:
    """What a command run in this process leaves out with --no-plugin is there again for the next test."""
    before = registry.blocked
    yield
    if registry.blocked != before:
        registry._blocked = set(before)
        registry.refresh()


@pytest.fixture(scope="session")
def soak_minutes() -> float:
    """How long `make soak` may take in all; each soak test takes its share of it. SOAK_MINUTES=60 for a longer run."""
    return float(os.environ.get("SOAK_MINUTES", "10"))
