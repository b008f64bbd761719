"""Each check of executors can fail: an executor that is right but for one line."""

from __future__ import annotations

import pytest

from anomaly_core import ExecutorSpec
from anomaly_testing import check_component, checks_of

SOURCE = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager

@contextmanager
def executor(jobs, address=None):
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool.map
    finally:
        pool.shutdown(wait=True)
"""
UNORDERED = "yield lambda f, items: (done.result() for done in as_completed([pool.submit(f, item) for item in items]))"
WRAPPED = """def run(f, items):
            try:
                return list(pool.map(f, items))
            except Exception as error:
                raise RuntimeError("a task failed") from error
        yield run"""
SWALLOWED = """def run(f, items):
            done = [pool.submit(f, item) for item in items]
            return [each.result() for each in done if each.exception() is None]
        yield run"""
# check, the line that is replaced, what stands there instead, words of the reason
BROKEN = [
    ("maps_in_order", "yield pool.map", UNORDERED, "the squares of 0, 1, 2, 3 came as"),
    (
        "pickles_what_it_sends",
        'ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))',
        "ThreadPoolExecutor(jobs)",
        "changed the caller's own items [0, 1, 2, 3]",
    ),
    ("raises_what_a_task_raises", "yield pool.map", WRAPPED, "the caller got a RuntimeError: a task failed"),
    ("raises_what_a_task_raises", "yield pool.map", SWALLOWED, "the caller got [0, 1, 3]"),
    ("closes", "pool.shutdown(wait=True)", "KEPT.append(pool)\n\nKEPT = []", "are still there. End them on leaving"),
]


def spec(modules, old: str = "", new: str = "") -> ExecutorSpec:
    return ExecutorSpec(target=f"{modules(SOURCE, old, new)}:executor", summary="a pool of processes")


def test_a_sound_executor_passes_every_check(modules) -> None:
    results = check_component(spec(modules), "executor")
    assert [outcome.check for outcome in results] == list(checks_of("executor"))
    assert {outcome.status for outcome in results} == {"passed"}


@pytest.mark.parametrize(("check", "old", "new", "words"), BROKEN, ids=[f"{i}-{row[0]}" for i, row in enumerate(BROKEN)])
def test_a_broken_executor_fails(
    modules, fails, monkeypatch: pytest.MonkeyPatch, check: str, old: str, new: str, words: str
) -> None:
    monkeypatch.setattr("anomaly_testing.executors.PATIENCE", 1.0)
    fails(spec(modules, old, new), check, words)


def test_every_check_is_proved_to_fail(common: set[str]) -> None:
    assert set(checks_of("executor")) == {check for check, *_ in BROKEN} | common


def test_a_library_that_is_missing_is_a_reason_to_skip(modules) -> None:
    missing = spec(
        modules, "try:", 'from anomaly_core import MissingLibrary\n    raise MissingLibrary("pip install fast")\n    try:'
    )
    results = check_component(missing, "executor")
    assert {outcome.check for outcome in results if outcome.status == "skipped"} == {check for check, *_ in BROKEN}
