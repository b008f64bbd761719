"""Evaluation of a test set: the same code scores and judges it in a run and in an evaluation of a finished run."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anomaly_core.base.data import BaseDataModule
from anomaly_core.base.metric import BaseMetric
from anomaly_core.base.modeler import BaseModeler
from anomaly_core.base.trainer import Progress, quiet
from anomaly_core.config.resolve import RunConfig
from anomaly_core.discovery import registry
from anomaly_core.errors import AnomalyError, PluginError, UndefinedMetric, is_stop
from anomaly_core.hooks import Hooks
from anomaly_core.imaging.geometry import InputSpec
from anomaly_core.imaging.reading import ImageReader
from anomaly_core.run.calibration import Calibration
from anomaly_core.run.folder import RunFolder
from anomaly_core.run.result import Measure, Resolution, RunResult, TestedImage, Values, mean_values
from anomaly_core.run.scoring import score, tiled, within_region
from anomaly_core.types import Batch, Prediction, Sample

Curves = dict[str, dict[str, dict[str, list[float]]]]


class Evaluation(NamedTuple):
    """The results on a test set: metrics in display order, a row for each image, and the curves of each category."""

    measures: dict[str, Measure]
    rows: list[TestedImage]
    curves: Curves
    resolution: Resolution


class Evaluator:
    """Collects predictions batch by batch; :meth:`evaluation` returns the results. Each category is judged separately."""

    def __init__(
        self,
        config: RunConfig,
        calibration: Calibration,
        categories: list[str],
        input_spec: InputSpec,
        reader: ImageReader | None = None,
    ) -> None:
        self.reader = reader or ImageReader()
        self.calibration = calibration
        self.input_spec = input_spec
        self._named = config.base.metrics
        self._names = self._named or default_metrics()
        self._undefined: dict[str, str] = {}  # metric -> why it has no value
        self._metrics: dict[str, dict[str, BaseMetric]] = {category: {} for category in categories}  # without those that failed
        for metrics in self._metrics.values():
            for name in self._names:
                with self._guarded(metrics, name):
                    others = list(metrics.values())
                    metrics[name] = registry.metrics[name].build(calibration)
                    metrics[name].share(others)
        self._rows: list[TestedImage] = []
        self._tiled = config.data.tile is not None
        self._resolution = Resolution("native" if self._tiled else config.data.evaluate_at)
        self._reconstructs = False

    def update(self, batch: Batch, prediction: Prediction) -> list[TestedImage]:
        """Add a batch and its prediction, both on the CPU; returns their rows. A score or map that is NaN or infinite is an
        error in its row: the image has no verdict, and no metric counts it."""
        self._reconstructs |= prediction.reconstruction is not None
        usable = prediction.finite()
        chosen = [index for index, fine in enumerate(usable) if fine]
        counted = (batch, prediction) if len(chosen) == len(batch) else (batch[chosen], prediction[chosen])
        for part, predicted in self._parts(*counted):
            self._resolution.take(predicted)
            metrics = self._metrics[part.samples[0].category]
            for name, metric in list(metrics.items()):
                with self._guarded(metrics, name):
                    metric.update(part, predicted)
        rows = []
        for sample, value, fine in zip(batch.samples, prediction.scores.tolist(), usable, strict=True):
            row = TestedImage(str(sample.path), sample.category, sample.defect, sample.label, value)
            if fine:
                row.is_anomalous = self.calibration.is_anomalous(value)
                row.p_value = None if row.is_anomalous is None else self.calibration.p_value(value)
            else:
                row.score, row.error = math.nan, "the method gave a score or a map that is NaN or infinite"
            rows.append(row)
        self._rows += rows
        return rows

    def evaluation(self) -> Evaluation:
        """The results over all batches."""
        applicable = [name for name in self._names if self._applies(name)]
        by_category: dict[str, Values] = {category: dict.fromkeys(applicable) for category in self._metrics}
        for category, metrics in self._metrics.items():
            for name in [name for name in applicable if name in metrics]:
                with self._guarded(metrics, name):
                    by_category[category][name] = _finite(metrics[name].compute())
        measures = []
        for name, value in mean_values(by_category.values()).items():
            apart = {category: values[name] for category, values in by_category.items()} if len(by_category) > 1 else {}
            measures.append(Measure.of(name, value, self._undefined.get(name, ""), apart))
        measures.sort(key=lambda measure: measure.rank)
        curves: Curves = {category: {} for category in self._metrics}
        for category, metrics in self._metrics.items():
            for name, metric in list(metrics.items()):
                with self._guarded(metrics, name):
                    curves[category] |= _curves(metric)
        return Evaluation({measure.name: measure for measure in measures}, self._rows, curves, self._resolution)

    @contextmanager
    def _guarded(self, metrics: dict[str, BaseMetric], name: str) -> Iterator[None]:
        """A metric at work. One with a bug, whoever named it, is asked no more: it costs its own value, and no run."""
        try:
            yield
        except UndefinedMetric as reason:
            self._undefined[name] = str(reason)
        except BaseException as error:
            if isinstance(error, AnomalyError) or is_stop(error):
                raise
            metrics.pop(name, None)
            self._undefined[name] = str(registry.metrics[name].failure(error))
            warnings.warn(f"the metric {name!r} has no value: {self._undefined[name]}", stacklevel=2)

    def _parts(self, batch: Batch, prediction: Prediction) -> Iterator[tuple[Batch, Prediction]]:
        """The input of the metrics: parts of one category each, at the chosen resolution."""
        if self._resolution.evaluated_at == "native" and not self._tiled:  # maps of tiles are native already
            yield from native_parts(batch, prediction, self.input_spec, self.reader)
            return
        for category in dict.fromkeys(sample.category for sample in batch.samples):
            chosen = [i for i, sample in enumerate(batch.samples) if sample.category == category]
            yield (batch, prediction) if len(chosen) == len(batch) else (batch[chosen], prediction[chosen])

    def _applies(self, name: str) -> bool:
        """Whether a default metric applies. One named by the user is always reported, even if only as undefined."""
        return self._named is not None or self._reconstructs or registry.metrics[name].spec.level != "reconstruction"


def default_metrics() -> list[str]:
    """The metrics to compute if the user names none. An unusable one is only a warning, as the user did not request it."""
    names = []
    for component in registry.metrics.values():
        try:
            if component.spec.default:
                component.load()
                names.append(component.name)
        except PluginError as error:
            warnings.warn(f"{error} The run goes on without it.", stacklevel=2)
    return names


def _curves(metric: BaseMetric) -> dict[str, dict[str, list[float]]]:
    """A metric's curves: ``{"pixel_roc": {"x": [...], "y": [...]}}``."""
    return {name: {"x": list(map(_finite, x)), "y": list(map(_finite, y))} for name, (x, y) in metric.curves().items()}


def _finite(value: Any) -> float:
    if isinstance(value, str | bytes) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def native_parts(
    batch: Batch, prediction: Prediction, spec: InputSpec, reader: ImageReader
) -> Iterator[tuple[Batch, Prediction]]:
    """For ``data.evaluate_at=native``: each image separately, its map resized bilinearly to the image's size, its mask as is.

    One image at a time, because native maps are large. With a crop, map and mask cover only the region that the model saw; the
    border of ``resize=pad`` is cut off. Image and reconstruction stay at the input size. DataError if a mask cannot be read.
    """
    for index, sample in enumerate(batch.samples):
        one, predicted = batch[index : index + 1], prediction[index : index + 1]
        if predicted.maps is not None and one.masks is not None:
            maps, masks, valid = _native(sample, predicted.maps[0], spec, reader)
            one, predicted = replace(one, masks=masks, valid=valid), replace(predicted, maps=maps)
        yield one, predicted


def _native(sample: Sample, anomaly_map: Tensor, spec: InputSpec, reader: ImageReader) -> tuple[Tensor, Tensor, Tensor | None]:
    """(1, h, w) -> map float, mask bool and the pixels that count, bool or None; all (1, 1, H, W)."""
    mask = None if sample.mask_path is None else reader.mask(sample.mask_path)
    height, width = reader.size(sample.path) if mask is None else mask.size[::-1]
    resized = spec.native_map(anomaly_map, width, height)[None]
    region = left, top, right, bottom = spec.native_region(width, height)
    keep = reader.keep(height, width)
    valid = None if keep is None else torch.from_numpy(keep[top:bottom, left:right].copy())[None, None]
    if mask is None:
        return resized, torch.zeros_like(resized, dtype=torch.bool), valid
    cropped = mask.crop(region)
    # Copy PIL's bytes: without the copy, frombuffer would give a read-only tensor.
    pixels = torch.frombuffer(bytearray(cropped.tobytes()), dtype=torch.uint8)
    return resized, (pixels != 0).view(1, 1, cropped.height, cropped.width), valid


def build_data(config: RunConfig) -> BaseDataModule:
    """The data module for a config."""
    component = registry.datasets[config.data.name]
    data: BaseDataModule = component.build(config.data, seed=config.base.seed, spec=component.spec)
    return data


def test(
    run: RunFolder,
    config: RunConfig,
    modeler: BaseModeler,
    calibration: Calibration,
    data: BaseDataModule,
    samples: list[Sample],
    *,
    device: torch.device,
    hooks: Hooks,
    progress: Progress = quiet,
    figures: Mapping[str, float] | None = None,
) -> RunResult:
    """Score the test images with a fitted modeler, and write the results, with the fit's figures, to the run's folder."""
    categories = list(dict.fromkeys(sample.category for sample in samples))
    evaluator = Evaluator(config, calibration, categories, modeler.input_spec, data.reader)
    start = time.perf_counter()
    loader = data.images(samples, modeler.input_spec)
    batches = progress(loader, "scoring test images", len(loader))
    for batch, prediction in score(tiled(modeler, config.data), batches, device):
        rows = evaluator.update(batch, prediction)
        inside = within_region(batch, prediction)
        scored = {"run": run, "batch": batch, "prediction": inside, "rows": rows, "calibration": calibration}
        hooks.call("anomaly_scored", **scored, input_spec=modeler.input_spec)
        del batch, prediction, inside, scored  # as in score
    run.facts["test_images_per_second"] = len(samples) / (time.perf_counter() - start)
    evaluation = evaluator.evaluation()
    if unscored := [row.path for row in evaluation.rows if row.error]:
        warnings.warn(
            f"{len(unscored)} of {len(samples)} test images, such as {unscored[0]!r}, have no finite score: they get no "
            "verdict, and the metrics leave them out. Look at these images, or fit again.",
            stacklevel=2,
        )
    hooks.call("anomaly_tested", run=run, rows=evaluation.rows, calibration=calibration)
    result = RunResult(
        run.folder,
        run.facts["category"],
        evaluation.measures,
        dict(figures or {}),
        evaluation.rows,
        calibration,
        run.facts["test_images_per_second"],
        run.facts.get("fit_seconds", 0.0),
        evaluation.resolution,
    )
    run.write_result(result, evaluation.curves)
    return result
