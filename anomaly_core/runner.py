"""run_experiment(config): the story of one run, readable top to bottom."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from anomaly_core.backbones import Backbones
from anomaly_core.base.data import BaseDataModule
from anomaly_core.base.metric import BaseMetric
from anomaly_core.base.modeler import BaseModeler
from anomaly_core.base.trainer import BaseTrainer, Progress, quiet
from anomaly_core.calibration import Calibration, calibrate
from anomaly_core.config import RunConfig
from anomaly_core.errors import DataError, UndefinedMetric
from anomaly_core.experiment import CALIBRATION, CONFIG, MANIFEST, METRICS, Experiment
from anomaly_core.hookspecs import Hooks
from anomaly_core.pictures import save_panel
from anomaly_core.registry import registry
from anomaly_core.types import Batch, Prediction, Sample

Row = dict[str, Any]


@dataclass
class RunResult:
    """What one run found.

    Attributes:
        folder: the run's folder.
        category: the category, or ``unified``.
        metrics: value by name; None where a metric is undefined.
        undefined: the reason, for each metric that is.
        predictions: a row a test image: path, category, defect, label, score, is_anomalous.
        calibration: the threshold and where it came from.
        images_per_second: of scoring, decoding included.
        per_category: of a unified run, each category's metrics.
    """

    folder: Path
    category: str
    metrics: dict[str, float | None]
    undefined: dict[str, str]
    predictions: list[Row]
    calibration: Calibration
    images_per_second: float
    fit_seconds: float
    per_category: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass
class ExperimentResult:
    """What an experiment found: a run for each category (or one, unified), and their mean.

    Attributes:
        runs: one result a model.
    """

    runs: list[RunResult]

    @property
    def metrics(self) -> dict[str, float | None]:
        """The mean over categories; None where a metric is undefined in one of them."""
        return mean_metrics([run.metrics for run in self.runs])

    @property
    def predictions(self) -> list[Row]:
        """The rows of all runs."""
        return [row for run in self.runs for row in run.predictions]

    @property
    def folder(self) -> Path:
        """The run's folder; of several runs, the folder ``<output>/<dataset>`` that holds them."""
        return self.runs[0].folder if len(self.runs) == 1 else self.runs[0].folder.parents[2]


def run_experiment(config: RunConfig, *, progress: Progress = quiet) -> ExperimentResult:
    """Fit, calibrate and judge a detector for each chosen category, and write a folder for each.

    Args:
        config: as :meth:`RunConfig.create` or :func:`load_run` gives it.
        progress: shows how far long steps have come; silent by default.

    Raises:
        AnomalyError: what cannot be done, where, and the next step.
    """
    hooks = Hooks(registry, on_failure=_warn)
    hooks.call("anomaly_configure", config=config)
    component = registry.datasets[config.data.name]
    data: BaseDataModule = component.build(config.data, seed=config.base.seed, spec=component.spec)
    if component.spec.noncommercial:
        _warn(f"the data set {config.data.name!r} is licensed {component.spec.license}: not for commercial use.")
    categories = data.chosen_categories()
    groups = [categories] if config.data.unified else [[category] for category in categories]
    return ExperimentResult([_run_one(config, data, group, hooks, progress) for group in groups])


def _run_one(config: RunConfig, data: BaseDataModule, categories: list[str], hooks: Hooks, progress: Progress) -> RunResult:
    label = "unified" if config.data.unified else categories[0]
    config = config.replace(**{"data.category": categories})
    experiment = Experiment.create(config.base.output, config.data.name, label, config.model.name)
    experiment.write(CONFIG, config.to_yaml())
    manifest: Row = {"status": "running", "seed": config.base.seed, "started": time.time(), "versions": _versions()}
    experiment.write_json(MANIFEST, manifest)
    log: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            hooks.call("anomaly_run_start", run=experiment)
            result = _fit_and_judge(config, data, categories, label, experiment, manifest, hooks, progress)
            log = [str(item.message) for item in caught]
    except BaseException as error:
        manifest["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        experiment.write_json(MANIFEST, {**manifest, "error": f"{type(error).__name__}: {error}"})
        hooks.call("anomaly_run_error", run=experiment, error=error)
        raise
    for text in dict.fromkeys(log):
        _warn(text)
    experiment.write("log.txt", "".join(f"warning: {text}\n" for text in dict.fromkeys(log)))
    experiment.write_json(MANIFEST, {**manifest, "status": "complete", "warnings": list(dict.fromkeys(log))})
    hooks.call("anomaly_run_end", run=experiment, results=result)
    return result


def _fit_and_judge(
    config: RunConfig,
    data: BaseDataModule,
    categories: list[str],
    label: str,
    experiment: Experiment,
    manifest: Row,
    hooks: Hooks,
    progress: Progress,
) -> RunResult:
    set_seed(config.base.seed)
    modeler: BaseModeler = registry.models[config.model.name].build(config.model, backbones=Backbones(config.base.backbones))
    trainer: BaseTrainer = registry.trainers[config.train.name].build(
        config.train, device=config.base.device, progress=progress
    )
    splits = [data.split(category) for category in categories]
    fit = [sample for part, _ in splits for sample in part]
    held_out = [sample for _, part in splits for sample in part]
    test = [sample for category in categories for sample in data.test_samples(category)]
    if not test:
        raise DataError(f"category {label!r} of {config.data.name!r} has no test image under {str(data.root)!r}.")
    manifest["data"] = {
        "fit": len(fit),
        "held_out": len(held_out),
        "test": len(test),
        "digest": _digest([*fit, *held_out, *test]),
    }

    start = time.perf_counter()
    loader = data.loader(held_out, modeler.input_spec) if held_out else None
    history = trainer.fit(modeler, data.loader(fit, modeler.input_spec, shuffle=trainer.shuffles), loader)
    manifest["fit_seconds"] = fit_seconds = time.perf_counter() - start
    for row in history:
        hooks.call("anomaly_log", run=experiment, metrics=row, step=int(row.get("epoch", 0)))
    experiment.write_rows("history.csv", history)
    experiment.save_state(modeler.state_dict())

    calibration = _calibrate(config, trainer, modeler, data, held_out)
    experiment.write_json(CALIBRATION, calibration.to_dict())
    if calibration.warning:
        warnings.warn(calibration.warning, stacklevel=2)

    judge = Judge(config, calibration, categories, experiment)
    start = time.perf_counter()
    test_loader = data.loader(test, modeler.input_spec)
    for batch, prediction in trainer.predict(modeler, test_loader, "scoring test images", len(test_loader)):
        judge.update(batch, prediction)
    rate = len(test) / (time.perf_counter() - start)
    result = judge.finish(label, rate, fit_seconds, modeler)
    manifest |= {"test_images_per_second": rate, "peak_memory_mb": _peak_memory_mb(), "finished": time.time()}
    return result


class Judge:
    """Gathers predictions: metrics per category, rows, and pictures of some of the images."""

    def __init__(self, config: RunConfig, calibration: Calibration, categories: list[str], experiment: Experiment) -> None:
        self.calibration = calibration
        self.experiment = experiment
        self.names = config.base.metrics or [c.name for c in registry.metrics.values() if c.spec.default]
        self.metrics = {category: {name: self._metric(name) for name in self.names} for category in categories}
        self.rows: list[Row] = []
        self.resolution: list[int] | None = None
        self.pictures = sys.maxsize if config.base.pictures == "all" else config.base.pictures
        self.kept: dict[tuple[str, str], list[tuple[Any, ...]]] = {}

    def _metric(self, name: str) -> BaseMetric:
        metric: BaseMetric = registry.metrics[name].build(self.calibration)
        return metric

    def update(self, batch: Batch, prediction: Prediction) -> None:
        self.resolution = None if prediction.maps is None else list(prediction.maps.shape[-2:])
        for category in dict.fromkeys(sample.category for sample in batch.samples):
            chosen = [i for i, sample in enumerate(batch.samples) if sample.category == category]
            part = (batch, prediction) if len(chosen) == len(batch) else select(batch, prediction, chosen)
            for metric in self.metrics[category].values():
                metric.update(*part)
        for index, (sample, score) in enumerate(zip(batch.samples, prediction.scores.tolist(), strict=True)):
            self.rows.append(self._row(sample, score))
            self._keep(sample, score, batch, prediction, index)

    def _row(self, sample: Sample, score: float) -> Row:
        verdict = self.calibration.is_anomalous(score)
        return {
            "path": str(sample.path),
            "category": sample.category,
            "defect": sample.defect,
            "label": "" if sample.label is None else sample.label,
            "score": repr(score),
            "is_anomalous": "" if verdict is None else int(verdict),
        }

    def _keep(self, sample: Sample, score: float, batch: Batch, prediction: Prediction, index: int) -> None:
        """The first images of every kind of defect, as many as could be needed."""
        kept = self.kept.setdefault((sample.category, sample.defect), [])
        if prediction.maps is not None and len(kept) < self.pictures:
            mask = batch.masks[index] if batch.masks is not None and bool(batch.has_mask[index]) else None
            image = (batch.images[index] * 255).round().to(torch.uint8)
            kept.append(
                (sample, score, image, prediction.maps[index].half() if self.pictures > 64 else prediction.maps[index], mask)
            )

    def finish(self, label: str, rate: float, fit_seconds: float, modeler: BaseModeler) -> RunResult:
        """Compute and write metrics, predictions and pictures."""
        undefined: dict[str, str] = {}
        per_category: dict[str, dict[str, float | None]] = {}
        for category, metrics in self.metrics.items():
            per_category[category] = {name: _compute(metric, name, undefined) for name, metric in metrics.items()}
        values: dict[str, float | None] = {**mean_metrics(list(per_category.values())), **modeler.describe()}
        several = per_category if len(per_category) > 1 else {}
        self.experiment.write_json(
            METRICS,
            {
                **values,
                "undefined": undefined,
                "categories": several,
                "threshold": self.calibration.threshold,
                "threshold_source": self.calibration.source,
                "resolution": self.resolution,
                "images": len(self.rows),
            },
        )
        self.experiment.write_rows("predictions.csv", self.rows)
        self._save_pictures()
        return RunResult(
            self.experiment.folder, label, values, undefined, self.rows, self.calibration, rate, fit_seconds, several
        )

    def _save_pictures(self) -> None:
        """Images of each kind in turn, until the number that was asked for is reached."""
        queues = [list(items) for items in self.kept.values()]
        chosen = [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]
        for number, (sample, score, image, anomaly_map, mask) in enumerate(chosen[: self.pictures]):
            name = "-".join(part for part in (sample.category, sample.defect, sample.path.stem) if part)
            path = self.experiment.folder / "maps" / f"{number:04d}-{safe_name(name)}.png"
            save_panel(
                path, image.float() / 255, anomaly_map.float(), mask, self.calibration, title=f"{name}  score {score:.4g}"
            )


def select(batch: Batch, prediction: Prediction, chosen: list[int]) -> tuple[Batch, Prediction]:
    """The same batch and prediction with some of their images alone."""
    part = Batch(
        batch.images[chosen],
        batch.labels[chosen],
        None if batch.masks is None else batch.masks[chosen],
        batch.has_mask[chosen],
        [batch.samples[i] for i in chosen],
    )
    return part, Prediction(prediction.scores[chosen], None if prediction.maps is None else prediction.maps[chosen])


def safe_name(text: str) -> str:
    """A file name of letters, digits, dash, dot and underscore, at most 120 characters."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in text)[:120]


def mean_metrics(rows: Iterable[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of each metric; None where it is undefined in one of the rows."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    means: dict[str, float | None] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        numbers = [value for value in values if value is not None]
        means[name] = sum(numbers) / len(numbers) if len(numbers) == len(values) else None
    return means


def _compute(metric: BaseMetric, name: str, undefined: dict[str, str]) -> float | None:
    try:
        return float(metric.compute())
    except UndefinedMetric as reason:
        undefined[name] = str(reason)
        return None


def _calibrate(
    config: RunConfig, trainer: BaseTrainer, modeler: BaseModeler, data: BaseDataModule, held_out: list[Sample]
) -> Calibration:
    scores, maxima, medians = [], [], []
    if held_out:
        loader = data.loader(held_out, modeler.input_spec)
        for _, prediction in trainer.predict(modeler, loader, "calibrating", len(loader)):
            scores.append(prediction.scores)
            if prediction.maps is not None:
                flat = prediction.maps.flatten(1)
                maxima.append(flat.amax(dim=1))
                medians.append(flat.median(dim=1).values)
    joined = [torch.cat(parts) if parts else None for parts in (scores, maxima, medians)]
    return calibrate(
        joined[0] if joined[0] is not None else torch.empty(0),
        joined[1],
        joined[2],
        false_alarm_rate=config.base.false_alarm_rate,
    )


def _versions() -> dict[str, str]:
    ours = {component.distribution: component.version for component in registry.components()}
    libraries = ("torch", "torchvision", "timm", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in libraries}, **ours}


def _digest(samples: list[Sample]) -> str:
    """Of the files' names and sizes: tells whether two runs saw the same data, without reading it all."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.category}/{sample.path.name}:{sample.path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _warn(text: str) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(f"warning: {text}", style="yellow", markup=False, highlight=False)
