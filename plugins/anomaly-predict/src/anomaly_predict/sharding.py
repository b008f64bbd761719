"""Distributes many images over many workers; each opens the detector once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_core import ConfigError, Detector, Hooks, RunError, registry, thread_count
from anomaly_predict.detector import open_detector
from anomaly_predict.stream import Verdict, verdicts

SHARD = 256  # images per task
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


class Opening(NamedTuple):
    """How a worker opens the detector: arguments of :func:`~anomaly_core.open_detector`, and components to leave out."""

    path: str
    device: str = "auto"
    engine: str | None = None
    threads: int | None = None
    blocked: frozenset[str] = frozenset()
    verify: bool = True
    quick: bool = False


@contextmanager
def processes(jobs: int, address: str | None = None) -> Iterator[Map]:
    """The executor ``processes``: spawned processes on this machine, so that it works the same on every system.

    They are killed when the work is broken off, so that nobody waits for one that hangs.
    """
    if address is not None:
        raise ConfigError("--address names a cluster, and the executor `processes` has none. Choose --backend dask or ray.")
    others = set(multiprocessing.active_children())
    deaf = (signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; this process sees to it
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=signal.signal, initargs=deaf) as pool:
        try:
            yield pool.map
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


def sharded(
    opening: Opening,
    paths: Iterable[Path],
    *,
    jobs: int,
    executor: str = "processes",
    address: str | None = None,
    **options: Any,
) -> Iterator[Verdict]:
    """As :func:`~anomaly_core.verdicts`, but with several workers; results are in the order of the paths.

    Args:
        opening: how to open the detector.
        paths: read lazily; a few shards are in memory at a time.
        jobs: the number of workers.
        executor: the executor that runs them: ``processes``, or another installed one.
        address: the address of a cluster; None starts a local one.
        options: ``batch_size`` and ``pictures`` of :func:`~anomaly_core.verdicts`.

    Raises:
        PluginError: the executor is not installed.
        RunError: a worker died.
    """
    opening = opening._replace(threads=opening.threads or thread_count(jobs), blocked=registry.blocked)
    work = partial(_score_part, opening, options)
    stream, first = iter(paths), 0
    with registry.executors[executor].load()(jobs, address) as run:
        # in rounds, to keep memory constant: some executors return their results only at the end
        while window := list(islice(stream, jobs * 2 * SHARD)):
            size = min(SHARD, -(-len(window) // jobs))
            parts = [(first + start, window[start : start + size]) for start in range(0, len(window), size)]
            try:
                for done in run(work, parts):
                    yield from done
            except BrokenExecutor as error:
                raise RunError(
                    f"a worker died, perhaps because memory ran out: {error}. Lower --jobs or --batch-size; the rows that were "
                    "printed hold."
                ) from error
            first += len(window)


def _score_part(opening: Opening, options: dict[str, Any], part: tuple[int, list[Path]]) -> list[Verdict]:
    detector, hooks = _kept_open(opening, os.getpid())
    return list(verdicts(detector, part[1], hooks=hooks, decoders=opening.threads, first=part[0], **options))


@lru_cache(maxsize=1)
def _kept_open(opening: Opening, process: int) -> tuple[Detector, Hooks]:
    """The worker's detector, which stays open between shards."""
    registry.block(*opening.blocked)
    options = {"verify": opening.verify, "quick": opening.quick}
    detector = open_detector(opening.path, opening.device, opening.engine, opening.threads, **options)
    return detector, Hooks(registry)
