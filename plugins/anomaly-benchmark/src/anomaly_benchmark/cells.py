"""The cells of a grid: which runs it has, and what each of them resulted in."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomaly_core import BaseDataModule, ConfigError, Measure, RunConfig, UnusedOption, Values, expanded, registry

COSTS = ("fit_seconds", "images_per_second", "peak_memory_mb")
OF_THE_GRID = {  # options that the grid sets for each of its cells
    "base.seed": "name the seeds with --seed",
    "data.category": "name the categories with --category",
    "data.name": "name the data sets with --data",
    "data.unified": "each cell is one category. For one model of all: `anomaly run --unified`",
    "model.name": "name the models with --model",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a grid, and its results.

    Attributes:
        data, category, model, seed: where it stands in the grid.
        config: of the run, as plain values.
        folder: the run's folder; empty where it failed before there was one.
        measures: its metrics by name, with all that tables need to know of them; empty where it failed.
        figures: what the method says of itself, by name.
        costs: fit_seconds, images_per_second and peak_memory_mb; empty where it failed.
        error: why it failed, or empty.
        resolution: the resolution at which pixels were judged, in words.
    """

    data: str
    category: str
    model: str
    seed: int
    config: dict[str, Any] = dataclasses.field(repr=False)
    folder: str = ""
    measures: dict[str, Measure] = dataclasses.field(default_factory=dict)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    costs: Values = dataclasses.field(default_factory=dict)
    error: str = ""
    resolution: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Its place in the grid."""
        return self.data, self.category, self.model, self.seed

    @property
    def name(self) -> str:
        return f"{self.model} on {self.data}/{self.category}, seed {self.seed}"

    @property
    def values(self) -> Values:
        """Metrics, figures and costs by name; None where a metric is undefined."""
        metrics = {name: measure.value for name, measure in self.measures.items()}
        return {**metrics, **self.figures, **self.costs}


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
        categories: those that are wanted; of several data sets, each takes those that it has. None means all.
        preset: of every model.
        overrides: options of every run, each to the cells in which it acts; those of ``model`` and ``train`` to
            the models that have them.

    Raises:
        ConfigError: a category or option that no component knows, an option that acts nowhere or belongs to the grid.
        PluginError: a model, data set or metric that is not installed.
        DataError: a data set that is not there.
    """
    overrides = dict(overrides or {})
    _refuse_unknown(models, overrides)
    pairs = list(itertools.product(datasets, models))
    known = _acting(pairs, preset, overrides)
    cells = []
    found: set[str] = set()
    for dataset in datasets:
        available = _categories(models[0], dataset, preset, known[dataset, models[0]])
        found.update(available)
        wanted = [category for category in available if categories is None or category in categories]
        if not wanted and len(datasets) == 1:
            raise ConfigError(f"{dataset!r} has no category {', '.join(categories or ())}. It has: {', '.join(available)}.")
        for category, model, seed in itertools.product(wanted, models, seeds):
            options = {**known[dataset, model], "data.category": [category], "base.seed": seed}
            config = RunConfig.create(model=model, data=dataset, preset=preset, overrides=options)
            cells.append(Cell(dataset, category, model, seed, config.to_dict()))
            for metric in config.base.metrics or ():
                registry.metrics[metric]  # which says what there is, before anything is fitted
    if missing := [category for category in categories or () if category not in found]:
        raise ConfigError(f"no data set has a category {missing[0]!r}. There are: {', '.join(sorted(found))}.")
    if not cells:
        raise ConfigError(f"none of {', '.join(datasets)} has a category {', '.join(categories or ())}.")
    return cells


def output_folder(cells: Sequence[Cell]) -> Path:
    """Where the grid's tables go: ``<base.output>/benchmark``."""
    return expanded(cells[0].config["base"]["output"]) / "benchmark"


def _categories(model: str, dataset: str, preset: str | None, overrides: Mapping[str, Any]) -> list[str]:
    config = RunConfig.create(model=model, data=dataset, preset=preset, overrides=overrides)
    component = registry.datasets[dataset]
    module: BaseDataModule = component.build(config.data, seed=config.base.seed, spec=component.spec)
    return module.categories()


def _acting(
    pairs: Sequence[tuple[str, str]], preset: str | None, overrides: Mapping[str, Any]
) -> dict[tuple[str, str], dict[str, Any]]:
    """The options that act on each data set with each model; UnusedOption for one that does so nowhere."""
    acting: dict[tuple[str, str], dict[str, Any]] = {}
    unused: dict[str, UnusedOption] = {}
    for dataset, model in pairs:
        known = acting[dataset, model] = {key: value for key, value in overrides.items() if _has(model, key)}
        while True:
            try:
                RunConfig.create(model=model, data=dataset, preset=preset, overrides=known)
                break
            except UnusedOption as error:
                unused[error.option] = error
                del known[error.option]
    for option, reason in unused.items():
        if not any(option in known for known in acting.values()):
            raise reason
    return acting


def _refuse_unknown(models: Sequence[str], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if key in OF_THE_GRID:
            raise ConfigError(f"{key}={value} would be ignored in a benchmark: {OF_THE_GRID[key]}.")
        if key.startswith(("model.", "train.")) and not any(_has(model, key) for model in models):
            raise ConfigError(f"no model of the benchmark has the option {key}. `anomaly show MODEL` lists what each has.")


def _has(model: str, key: str) -> bool:
    """Whether a model has an option; what does not belong to model or trainer is every run's."""
    section, _, option = key.partition(".")
    if section not in ("model", "train"):
        return True
    component = registry.models[model]
    owner = component if section == "model" else registry.trainers[component.spec.trainer]
    return option in {field.name for field in dataclasses.fields(owner.config_class())}
