"""Decoding threads that nobody has to wait for: one that hangs, on a drive that is gone, keeps no program from ending."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_END: Any = object()
GRACE = 0.3  # seconds that a closed pool's threads have to finish what they are at
LULL = 0.03  # seconds without a new item, after which what waits for more goes on
PAUSE = 0.2  # seconds; Windows notices Ctrl-C only between two waits


class Pool(Executor):
    """Daemon threads. Unlike with :class:`~concurrent.futures.ThreadPoolExecutor`, neither leaving ``with`` nor the end of the
    interpreter waits for one that hangs.

    Only for work that Python may leave at its end, as reading files is: a thread that is inside torch would abort the process.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._serve, name=f"{name}-{index}", daemon=True) for index in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[..., R], /, *arguments: Any, **options: Any) -> Future[R]:
        """Have a thread call ``work``."""
        future: Future[R] = Future()
        self._jobs.put((future, lambda: work(*arguments, **options)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Cancel what has not begun, and give the threads a moment to finish the rest."""
        try:
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    job[0].cancel()
        except Empty:
            pass
        for _ in self._threads:
            self._jobs.put(None)
        end = time.monotonic() + GRACE * wait
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _serve(self) -> None:
        while self._next():  # a function of its own, so that an idle thread keeps no image
            pass

    def _next(self) -> bool:
        if (job := self._jobs.get()) is None:
            return False
        future, work = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # it is raised where the result is asked for
                future.set_exception(error)
        return True


def outcome(future: Future[R]) -> R:
    """The result, waited for so that Ctrl-C is noticed on every system."""
    while not future.done():
        wait([future], PAUSE)
    return future.result()


def as_they_come(pool: Executor, items: Iterable[T]) -> Iterator[T | None]:
    """The items, read one by one in a pool; None once where the next has not come within 30 ms, so that those before it need
    not wait for it, as where a program writes a name and waits for the verdict before it writes the next."""
    stream = iter(items)
    while True:
        coming = pool.submit(next, stream, _END)
        if not wait([coming], LULL).done:
            yield None
        item = outcome(coming)
        if item is _END:
            return
        yield item


def ahead(pool: Executor, work: Callable[[T], R], items: Iterable[T | None], limit: int) -> Iterator[R | None]:
    """``map`` in a pool, in order, with at most ``limit`` items in progress beyond the requested one; after None among the
    items, with nothing in progress, None.

    What ``items`` raises comes after the results of the items before it.
    """
    pending: deque[Future[R]] = deque()
    fault: Exception | None = None
    stream = iter(items)
    try:
        while True:
            try:
                item = next(stream)
            except StopIteration:
                break
            except Exception as error:
                fault = error
                break
            if item is None:
                while pending:
                    yield outcome(pending.popleft())
                yield None
                continue
            pending.append(pool.submit(work, item))
            del item
            if len(pending) > limit:
                yield outcome(pending.popleft())
        while pending:
            yield outcome(pending.popleft())
        if fault is not None:
            raise fault
    finally:
        for future in pending:
            future.cancel()


def batched(items: Iterable[T | None], size: int) -> Iterator[list[T] | None]:
    """Lists of ``size`` items; shorter before None, which is passed on, and at the end, before what ``items`` raises."""
    batch: list[T] = []
    fault: Exception | None = None
    stream = iter(items)
    while True:
        try:
            item = next(stream)
        except StopIteration:
            break
        except Exception as error:
            fault = error
            break
        if item is not None:
            batch.append(item)
        if batch and (item is None or len(batch) == size):
            yield batch
            batch = []
        if item is None:
            yield None
        del item
    if batch:
        yield batch
    if fault is not None:
        raise fault
