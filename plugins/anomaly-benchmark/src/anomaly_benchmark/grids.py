"""Running a grid: many cells at once on joblib's backends, resumable; a process that dies costs its own cell alone."""

from __future__ import annotations

import dataclasses
import io
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

from anomaly_benchmark.backends import open_backend
from anomaly_benchmark.cells import COSTS, Cell
from anomaly_core import (
    AnomalyError,
    Progress,
    RunConfig,
    RunError,
    RunFolder,
    RunResult,
    Values,
    described,
    is_stop,
    quiet,
    registry,
    stoppable,
    thread_count,
)

Work = Callable[..., Cell]


def run_grid(
    cells: Sequence[Cell],
    *,
    jobs: int = 1,
    backend: str = "loky",
    address: str | None = None,
    resume: bool = False,
    progress: Progress = quiet,
) -> list[Cell]:
    """Run every cell, each an ordinary run in a folder of its own; one that fails is reported, and the rest goes on.

    Args:
        cells: of :func:`~anomaly_benchmark.grid`.
        jobs: how many at once.
        backend: ``loky`` (processes of this machine), ``dask`` or ``ray``.
        address: of a Dask scheduler or Ray cluster; None starts a local one with ``jobs`` workers.
        resume: cells that are complete are read, those that were stopped go on.
        progress: shows how many are done.

    Returns:
        The cells in their order, with their results.

    Raises:
        ConfigError: there is no such backend, or it takes no address.
        MissingLibrary: the backend's library is not installed.
        RunError: the cluster cannot be reached, or broke off.
    """
    threads = thread_count(jobs) if address is None else None  # a cluster's machines are not this one
    work = partial(run_cell, resume=resume, threads=threads, blocked=registry.blocked)
    on_processes = backend == "loky" and jobs > 1
    with open_backend(backend, jobs, address), warnings.catch_warnings():
        # loky replaces a process whose memory has grown, and warns of what costs nothing
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        done = _on_processes(cells, jobs, work) if on_processes else _on_backend(cells, jobs, backend, work)
        finished = list(progress(done, "running the grid", len(cells)))
    place = {cell.key: number for number, cell in enumerate(cells)}
    return sorted(finished, key=lambda cell: place[cell.key])


def _on_backend(cells: Sequence[Cell], jobs: int, backend: str, work: Work) -> Iterator[Cell]:
    """The cells as they are done, on the backend that is open."""
    from joblib import Parallel, delayed

    # Ray's backend hands results over at the end alone
    parallel = Parallel(n_jobs=jobs, return_as="list" if backend == "ray" else "generator_unordered")
    try:
        yield from parallel(delayed(work)(cell) for cell in cells)
    except Exception as error:  # the backend's, such as a worker that dies again and again: a cell's own become its result
        raise RunError(
            f"--backend {backend} broke off: {type(error).__name__}: {error}. The cells that were complete are kept: "
            "run the same command with --resume."
        ) from error


def _on_processes(cells: Sequence[Cell], jobs: int, work: Work) -> Iterator[Cell]:
    """The cells as they are done, on joblib's processes. Where a process dies, what it took with it runs again, once and alone.

    A process that dies (killed because memory ran out, say) breaks the whole pool, and the pool does not tell which cell it
    had: each cell leaves a mark in a folder while it runs.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    remaining = {cell.key: cell for cell in cells}
    with tempfile.TemporaryDirectory(prefix="anomaly-grid-") as marks:
        while remaining:
            queue = list(enumerate(remaining.values()))
            parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
            try:
                for cell in parallel(delayed(_marked)(Path(marks) / str(number), work, cell) for number, cell in queue):
                    del remaining[cell.key]
                    yield cell
            except BrokenProcessPool as error:
                lost = [cell for number, cell in queue if (Path(marks) / str(number)).exists() and cell.key in remaining]
                for cell in lost or [cell for _, cell in queue if cell.key in remaining][:1]:
                    del remaining[cell.key]
                    yield _alone(cell, partial(work, resume=True), str(error).partition("\n")[0])
                for mark in Path(marks).iterdir():
                    mark.unlink()


def _marked(mark: Path, work: Work, cell: Cell) -> Cell:
    mark.touch()
    result = work(cell)
    mark.unlink()
    return result


def _alone(cell: Cell, work: Work, reason: str) -> Cell:
    """A cell whose process died, gone on with in a process of its own; where that dies too, the cell says so."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    with ProcessPoolExecutor(max_workers=1) as executor:
        try:
            result: Cell = executor.submit(work, cell).result()
        except BrokenProcessPool:
            return dataclasses.replace(
                cell,
                error=f"the process that ran it died twice, the second time alone: {reason} If memory ran out, close "
                "other programs and run the same command with --resume; another data.batch_size makes new runs of all cells.",
            )
    return result


def run_cell(cell: Cell, *, resume: bool = False, threads: int | None = None, blocked: Iterable[str] = ()) -> Cell:
    """One cell, in whatever process: the run's results, or why there are none.

    Args:
        cell: of :func:`~anomaly_benchmark.grid`.
        resume: what is complete is read, what was stopped goes on.
        threads: that compute; None leaves their number as it is.
        blocked: components that are left out.
    """
    import torch

    from anomaly_core import run_experiment

    if threads is not None:
        torch.set_num_threads(threads)
    registry.block(*blocked)
    try:
        config = RunConfig.create(config=cell.config)
        with stoppable(), redirect_stderr(io.StringIO()):  # each run's log keeps its warnings
            (run,) = run_experiment(config, resume=resume).runs
    except BaseException as raised:  # one cell's bug must not cost the others, nor look like an end in order
        if is_stop(raised):
            raise
        error = registry.attributed(raised)
        return dataclasses.replace(cell, error=str(error) if isinstance(error, AnomalyError) else described(error))
    return dataclasses.replace(
        cell,
        folder=str(run.folder),
        measures=run.measures,
        figures=run.figures,
        costs=_costs(run),
        resolution=str(run.resolution),
    )


def _costs(run: RunResult) -> Values:
    memory = RunFolder(run.folder).manifest().get("peak_memory_mb")
    return dict(zip(COSTS, (run.fit_seconds, run.images_per_second, memory), strict=True))
