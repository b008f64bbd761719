"""Checks of executors: what runs many tasks at once must give what a plain loop gives, and leave nothing behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import psutil

from anomaly_core import DataError, MissingLibrary
from anomaly_testing.checks import Broken, Subject, named, require
from anomaly_testing.common import SPEC

JOBS = 2
PATIENCE = 10.0  # seconds that workers may take to end
Map = Callable[[Callable[["Task"], Any], Iterable["Task"]], Iterator[Any]]


@dataclass
class Task:
    """What a worker is given; it waits, and notes in its own copy that it was there."""

    number: int
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


class ExecutorSubject(Subject):
    """An executor under test."""

    def open(self) -> AbstractContextManager[Map]:
        """Two workers of this machine."""
        executor: AbstractContextManager[Map] = self.component.load()(JOBS, None)
        return executor


def maps_in_order(subject: ExecutorSubject) -> None:
    """The results come in the order of the items, also where later ones are done first; no items give no results."""
    with subject.open() as run:
        numbers = list(run(work, [Task(0, 0.5), Task(1), Task(2, 0.2), Task(3)]))
        nothing = list(run(work, []))
    require(numbers == [0, 1, 4, 9], f"the squares of 0, 1, 2, 3 came as {numbers}.")
    require(nothing == [], f"no items gave {nothing}.")


def pickles_what_it_sends(subject: ExecutorSubject) -> None:
    """A function of a module and its items are pickled: what a worker changes is its own copy."""
    tasks = [Task(number) for number in range(4)]
    with subject.open() as run:
        noted = list(run(note, tasks))
    require(noted == [["done"]] * 4, f"each task notes 'done' and gave {noted}.")
    changed = [task.number for task in tasks if task.notes]
    require(not changed, f"the worker changed the caller's own items {changed}. Run tasks in processes of their own.")


def raises_what_a_task_raises(subject: ExecutorSubject) -> None:
    """An error of a task reaches the caller with its class and message."""
    try:
        with subject.open() as run:
            results = list(run(fail_at_two, [Task(number) for number in range(4)]))
    except DataError as error:
        require("task 2" in str(error), f"the error of a task came without its message: {error}")
    except MissingLibrary:
        raise
    except Exception as error:  # an executor may wrap it in anything
        raise Broken(f"a task raised a DataError, and the caller got a {type(error).__name__}: {error}") from error
    else:
        raise Broken(f"a task raised a DataError, and the caller got {results}.")


def closes(subject: ExecutorSubject) -> None:
    """When it is closed its workers end, and it can be opened again."""
    for _ in range(2):
        with subject.open() as run:
            workers = set(run(process, [Task(number, 0.1) for number in range(4)]))
    left = _alive(workers - {os.getpid()})
    require(not left, f"{PATIENCE:.0f} s after it was closed its workers {sorted(left)} are still there. End them on leaving.")


EXECUTOR = SPEC + named(maps_in_order, pickles_what_it_sends, raises_what_a_task_raises, closes)


def work(task: Task) -> int:
    """In a worker: the square of the number, after a while."""
    time.sleep(task.seconds)
    return task.number**2


def note(task: Task) -> list[str]:
    """In a worker: a note in the task that it was given."""
    task.notes.append("done")
    return task.notes


def fail_at_two(task: Task) -> int:
    """In a worker: an error for one of the items."""
    if task.number == 2:
        raise DataError("task 2 failed, as it should.")
    return task.number


def process(task: Task) -> int:
    """In a worker: the number of its process."""
    time.sleep(task.seconds)
    return os.getpid()


def _alive(workers: set[int]) -> set[int]:
    """Those that do not end while we wait."""
    end = time.monotonic() + PATIENCE
    while (left := {pid for pid in workers if _runs(pid)}) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
