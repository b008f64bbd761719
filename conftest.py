"""What was tried against the project and what was lost, for docs/reliability.md; and the time that soak tests have."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import registry

os.environ.setdefault("ANOMALY_ENGINE", "torch")  # to compile tiny networks takes longer than to run them

pytest_plugins = ["harness", "diary", "rogues"]  # of tests/, for the plugins' tests too

Record = Callable[..., None]
SOAK_END = float(os.environ.get("SOAK_END", "0"))  # seconds since 1970
SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
LONGEST = 0.2  # of the time: the longest test must not begin when less is left


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Note a row of docs/reliability.md: ``record(kind, what, count, lost, seed)``, after the asserts.

    Args of what it gives:
        kind: the table it stands in: ``fault``, ``input``, ``security``, ``determinism`` or ``load``.
        what: was done, in words.
        count: how often.
        lost: what was lost, in words; ``nothing``.
        seed: repeats it; None where nothing is random.

    It is kept where ANOMALY_RELIABILITY names a file, as `make soak` does, and dropped otherwise. A test that is marked
    ``reliability(kind)`` and does not ask for this fixture gets a row that says its name.
    """

    def note(kind: str, what: str, count: int = 1, lost: str = "nothing", seed: int | None = None) -> None:
        keep_row(kind=kind, what=what, count=count, lost=lost, seed=seed, test=request.node.nodeid)

    return note


def keep_row(**row: Any) -> None:
    """Add a row where ANOMALY_RELIABILITY says."""
    target = os.environ.get("ANOMALY_RELIABILITY")
    if target:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """The row of a test that passed and says nothing else of itself."""
    report: Any = yield
    mark = item.get_closest_marker("reliability")
    if mark and mark.args and report.when == "call" and report.passed and "record" not in getattr(item, "fixturenames", ()):
        words = item.name.partition("[")[0].removeprefix("test_").replace("_", " ")
        keep_row(kind=mark.args[0], what=words, count=1, lost="nothing", seed=None, test=item.nodeid)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In `make soak`, what writes a row comes first."""
    if SOAK_END:
        items.sort(key=lambda item: item.get_closest_marker("reliability") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """When the time of `make soak` is almost over, what writes no row is left out."""
    only_long = item.get_closest_marker("soak") and not item.get_closest_marker("reliability")
    if SOAK_END and only_long and time.time() > SOAK_END - 60 * SOAK_MINUTES * LONGEST:
        pytest.skip("the time is over: `make soak SOAK_MINUTES=60` has more")


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
    return SOAK_MINUTES


@pytest.fixture(scope="session")
def soak_seed() -> int:
    """Of what soak tests draw; SOAK_SEED for another one."""
    return int(os.environ.get("SOAK_SEED", "7"))
