"""Many runs: a grid of models, categories and seeds, resumable, on joblib's backends."""

from __future__ import annotations

import dataclasses
import io
import itertools
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from anomaly_core.backends import open_backend
from anomaly_core.base.data import BaseDataModule
from anomaly_core.base.trainer import Progress, quiet
from anomaly_core.config import RunConfig
from anomaly_core.cores import threads
from anomaly_core.errors import AnomalyError, ConfigError, RunError
from anomaly_core.experiment import MANIFEST, Experiment
from anomaly_core.registry import registry
from anomaly_core.results import Metrics, RunResult


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid, and what came of it.

    Attributes:
        data, category, model, seed: where it stands in the grid.
        config: of the run, as plain values.
        folder: the run's folder; empty where it failed before there was one.
        metrics: value by name, fit_seconds, images_per_second and peak_memory_mb among them; empty where it failed.
        error: why it failed, or empty.
        resolution: at which pixels were judged, in words.
    """

    data: str
    category: str
    model: str
    seed: int
    config: dict[str, Any] = dataclasses.field(repr=False)
    folder: str = ""
    metrics: Metrics = dataclasses.field(default_factory=dict)
    error: str = ""
    resolution: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Its place in the grid."""
        return self.data, self.category, self.model, self.seed

    @property
    def name(self) -> str:
        return f"{self.model} on {self.data}/{self.category}, seed {self.seed}"


def grid(
    models: Sequence[str],
    datasets: Sequence[str],
    *,
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """The cells of models x data sets x categories x seeds.

    Args:
        categories: those that are wanted; of several data sets each takes those that it has. None means all.
        preset: of every model.
        overrides: options of every run; those of ``model`` and ``train`` go to the models that know them.

    Raises:
        ConfigError: a name or option that no component knows.
        DataError: a data set that is not there.
    """
    overrides = dict(overrides or {})
    _refuse_unknown(models, overrides)
    known = {model: {k: v for k, v in overrides.items() if _knows(model, k)} for model in models}
    cells = []
    for dataset in datasets:
        found = _categories(models[0], dataset, preset, known[models[0]])
        wanted = [category for category in found if categories is None or category in categories]
        if not wanted and len(datasets) == 1:
            raise ConfigError(f"{dataset!r} has no category {', '.join(categories or ())}. It has: {', '.join(found)}.")
        for category, model, seed in itertools.product(wanted, models, seeds):
            options = {**known[model], "data.category": [category], "base.seed": seed}
            config = RunConfig.create(model=model, data=dataset, preset=preset, overrides=options)
            cells.append(Cell(dataset, category, model, seed, config.to_dict()))
    if not cells:
        raise ConfigError(f"none of {', '.join(datasets)} has a category {', '.join(categories or ())}.")
    return cells


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
        cells: of :func:`grid`.
        jobs: how many at once.
        backend: ``loky`` (processes of this machine), ``dask`` or ``ray``.
        address: of a Dask scheduler or Ray cluster; None starts a local one with ``jobs`` workers.
        resume: cells that are complete are read, those that were stopped go on.
        progress: shows how many are done.

    Returns:
        The cells in their order, with their results.

    Raises:
        ConfigError: the backend is not installed.
    """
    from joblib import Parallel, delayed

    options = (threads(jobs) if address is None else None, registry.blocked)
    if backend == "loky" and jobs > 1:
        with warnings.catch_warnings():
            # loky replaces a process whose memory has grown, and warns of what costs nothing
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            finished = list(progress(_on_processes(cells, jobs, resume, options), "running the grid", len(cells)))
    else:
        with open_backend(backend, jobs, address):
            # Ray's engine hands results over at the end alone
            parallel = Parallel(n_jobs=jobs, return_as="list" if backend == "ray" else "generator_unordered")
            try:
                done = parallel(delayed(run_cell)(cell, resume, *options) for cell in cells)
                finished = list(progress(done, "running the grid", len(cells)))
            except (
                Exception
            ) as error:  # the engine's, such as a worker that dies again and again: a cell's own become its result
                raise RunError(
                    f"--backend {backend} broke off: {type(error).__name__}: {error}. The cells that were complete are kept: "
                    "run the same command with --resume."
                ) from error
    place = {cell.key: number for number, cell in enumerate(cells)}
    return sorted(finished, key=lambda cell: place[cell.key])


def _on_processes(cells: Sequence[Cell], jobs: int, resume: bool, options: tuple[int | None, frozenset[str]]) -> Iterator[Cell]:
    """The cells as they are done, on joblib's processes. Where a process dies, what it took with it runs again, once and alone.

    A process that dies (killed because memory ran out, say) breaks the whole pool, and the pool does not tell which cell it
    had: each cell leaves a mark in a folder while it runs.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    remaining = {cell.key: cell for cell in cells}
    with tempfile.TemporaryDirectory(prefix="anomaly-grid-") as marks, open_backend("loky", jobs, None):
        while remaining:
            queue = list(enumerate(remaining.values()))
            parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
            try:
                for cell in parallel(delayed(_marked_cell)(marks, n, cell, resume, options) for n, cell in queue):
                    del remaining[cell.key]
                    yield cell
            except BrokenProcessPool as error:
                lost = [cell for n, cell in queue if (Path(marks) / str(n)).exists() and cell.key in remaining]
                for cell in lost or [cell for _, cell in queue if cell.key in remaining][:1]:
                    del remaining[cell.key]
                    yield _alone(cell, options, str(error).partition("\n")[0])
                for mark in Path(marks).iterdir():
                    mark.unlink()


def _marked_cell(marks: str, number: int, cell: Cell, resume: bool, options: tuple[int | None, frozenset[str]]) -> Cell:
    mark = Path(marks) / str(number)
    mark.touch()
    done = run_cell(cell, resume, *options)
    mark.unlink()
    return done


def _alone(cell: Cell, options: tuple[int | None, frozenset[str]], reason: str) -> Cell:
    """A cell whose process died, gone on with in a process of its own; where that dies too, the cell says so."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    with ProcessPoolExecutor(max_workers=1) as executor:
        try:
            done: Cell = executor.submit(run_cell, cell, True, *options).result()
        except BrokenProcessPool:
            return dataclasses.replace(
                cell,
                error=f"the process that ran it died twice, the second time alone: {reason} If memory ran out, lower "
                "data.batch_size or model.image_size, then run the same command with --resume.",
            )
    return done


def run_cell(cell: Cell, resume: bool, threads: int | None = None, blocked: Iterable[str] = ()) -> Cell:
    """One cell, in whatever process: the run, or why there is none."""
    import torch

    from anomaly_core.runner import run_experiment

    if threads is not None:
        torch.set_num_threads(threads)
    registry.block(*blocked)
    config = RunConfig.create(config=cell.config)
    try:
        with redirect_stderr(io.StringIO()):  # each run's log keeps its warnings
            (run,) = run_experiment(config, resume=resume).runs
    except AnomalyError as error:
        return dataclasses.replace(cell, error=str(error))
    except Exception as error:  # one cell's bug must not cost the others
        return dataclasses.replace(cell, error=f"{type(error).__name__}: {error}")
    return dataclasses.replace(cell, folder=str(run.folder), metrics=_figures(run), resolution=str(run.resolution))


def _figures(run: RunResult) -> Metrics:
    memory = Experiment(run.folder).read_json(MANIFEST).get("peak_memory_mb")
    costs = {"fit_seconds": run.fit_seconds, "images_per_second": run.images_per_second, "peak_memory_mb": memory}
    return {**run.metrics, **costs}


def _categories(model: str, dataset: str, preset: str | None, overrides: Mapping[str, Any]) -> list[str]:
    config = RunConfig.create(model=model, data=dataset, preset=preset, overrides=overrides)
    component = registry.datasets[dataset]
    module: BaseDataModule = component.build(config.data, seed=config.base.seed, spec=component.spec)
    return module.categories()


def _refuse_unknown(models: Sequence[str], overrides: Mapping[str, Any]) -> None:
    for key in overrides:
        if key.startswith(("model.", "train.")) and not any(_knows(model, key) for model in models):
            raise ConfigError(f"no model of the benchmark has the option {key}. `anomaly show MODEL` lists what each has.")


def _knows(model: str, key: str) -> bool:
    section, _, option = key.partition(".")
    if section not in ("model", "train"):
        return True
    component = registry.models[model]
    owner = component if section == "model" else registry.trainers[component.spec.trainer]
    return option in {field.name for field in dataclasses.fields(owner.config_class())}


def output_folder(cells: Sequence[Cell]) -> Path:
    """Where the grid's table goes: ``<base.output>/benchmark``."""
    return Path(cells[0].config["base"]["output"]).expanduser() / "benchmark"
