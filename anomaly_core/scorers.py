"""A detector by its path: a run's folder, or a file that an engine opens; and many images over many processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from anomaly_core.backends import open_backend
from anomaly_core.cores import threads
from anomaly_core.errors import PluginError, RunError
from anomaly_core.pipeline import Verdict, verdicts
from anomaly_core.registry import registry
from anomaly_core.types import Scorer

SHARD = 256  # images that a worker is given at once


@dataclass(frozen=True)
class Opening:
    """How a detector is opened, in whatever process.

    Args:
        path: a run's folder, or a file that was exported.
        device: for a run: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: what computes; None: the run's own, or the first that opens the file.
        threads: that the engine may use; None: as many as there are cores.
        blocked: components that are left out.
    """

    path: str
    device: str = "auto"
    engine: str | None = None
    threads: int | None = None
    blocked: frozenset[str] = frozenset()


def open_scorer(opening: Opening) -> Scorer:
    """The detector: a folder is a run; a file belongs to the engine that claims its suffix, and needs no torch and no method.

    Raises:
        RunError: the folder is no complete run, or no installed engine opens such a file.
        PluginError: the method's distribution, or the engine or its library, is not installed.
    """
    path = Path(opening.path)
    if not path.is_file():
        return _open_run(opening)
    reading = _readers()
    suffix = path.suffix.lower()
    names = [name for name, suffixes in reading.items() if suffix in suffixes]
    if opening.engine is not None:
        registry.engines[opening.engine]  # which says what to install
        if opening.engine not in names:
            known = ", ".join(reading.get(opening.engine, ())) or "none"
            raise RunError(f"the engine {opening.engine!r} does not open {path.name!r}; files that it opens: {known}.")
        names = [opening.engine]
    if not names:
        every = ", ".join(sorted({suffix for suffixes in reading.values() for suffix in suffixes}))
        hint = f"Installed engines open: {every}." if every else "Exported detectors are opened by anomaly-export."
        raise RunError(f"{str(path)!r} is neither a run's folder nor a file that an installed engine opens. {hint}")
    component = registry.engines[names[0]]
    scorer: Scorer = component.reader()(path, component.name, opening.threads)
    return scorer


def _open_run(opening: Opening) -> Scorer:
    import torch

    from anomaly_core.predict import load_run

    if opening.threads is not None:
        torch.set_num_threads(opening.threads)
    return load_run(opening.path, opening.device, opening.engine)


def _readers() -> dict[str, tuple[str, ...]]:
    """The suffixes that each usable engine opens."""
    found = {}
    for name in registry.engines:
        try:
            found[name] = registry.engines[name].spec.suffixes
        except PluginError:  # `list-plugins` names what is broken; the others go on
            continue
    return found


def sharded(
    opening: Opening,
    paths: Iterable[Path],
    *,
    jobs: int,
    backend: str = "loky",
    address: str | None = None,
    batch_size: int = 32,
    pictures: Path | None = None,
) -> Iterator[Verdict]:
    """As :func:`~anomaly_core.pipeline.verdicts`, by several workers that each open the detector once; in the order of paths.

    Args:
        opening: the detector.
        paths: read as they are needed; a few shards are held at a time.
        jobs: workers.
        backend: ``loky``, ``dask`` or ``ray``.
        address: of a Dask scheduler or Ray cluster; None starts a local one.
        batch_size, pictures: as :func:`~anomaly_core.pipeline.verdicts`.

    Raises:
        ConfigError: the backend is not installed.
    """
    from joblib import Parallel, delayed

    share = opening.threads or threads(jobs)
    opening = Opening(opening.path, opening.device, opening.engine, share, registry.blocked)
    stream = iter(paths)
    first = 0
    with open_backend(backend, jobs, address):
        # Ray's engine hands results over as lists alone; so all of them get their work in rounds, which keeps memory flat
        while window := list(islice(stream, jobs * 2 * SHARD)):
            size = min(SHARD, -(-len(window) // jobs))
            parts = [window[start : start + size] for start in range(0, len(window), size)]
            tasks = [
                delayed(_score_part)(opening, part, batch_size, pictures, first + number * size)
                for number, part in enumerate(parts)
            ]
            for done in Parallel(n_jobs=jobs)(tasks):
                yield from done
            first += len(window)


def _score_part(opening: Opening, paths: list[Path], batch_size: int, pictures: Path | None, first: int) -> list[Verdict]:
    scorer = _kept_open(opening, os.getpid())
    return list(verdicts(scorer, paths, batch_size=batch_size, decoders=opening.threads, pictures=pictures, first=first))


@lru_cache(maxsize=1)
def _kept_open(opening: Opening, process: int) -> Scorer:
    """A worker's detector stays open from one shard to the next."""
    registry.block(*opening.blocked)
    return open_scorer(opening)
