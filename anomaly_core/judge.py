"""Judge: gathers the predictions of a test set into metrics, rows and pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from anomaly_core.backbones import Backbones
from anomaly_core.base.metric import BaseMetric
from anomaly_core.calibration import Calibration
from anomaly_core.config import RunConfig
from anomaly_core.errors import PluginError, UndefinedMetric
from anomaly_core.experiment import CURVES, METRICS, PREDICTIONS, Experiment
from anomaly_core.inputs import InputSpec
from anomaly_core.native import native_parts
from anomaly_core.pictures import reduced, safe_name, save_panel
from anomaly_core.registry import registry
from anomaly_core.results import Metrics, Resolution, Row, RunResult, is_oracle, mean_metrics
from anomaly_core.tiles import spans
from anomaly_core.types import Batch, Prediction, Sample

BLOCK = 1024  # pixels a side that a reconstruction is measured in


@dataclass
class _Picture:
    """An image that may be shown, and the row that will name its picture."""

    sample: Sample
    score: float
    image: Tensor
    anomaly_map: Tensor
    mask: Tensor | None
    reconstruction: Tensor | None
    row: Row


class Judge:
    """Takes in predictions batch by batch; :meth:`finish` computes and writes.

    Args:
        config: chooses metrics and pictures.
        calibration: the threshold.
        categories: those of the test set, each judged by itself.
        experiment: the run's folder.
        input_spec: the modeler's, by which maps find back to the images' own pixels.
    """

    def __init__(
        self,
        config: RunConfig,
        calibration: Calibration,
        categories: list[str],
        experiment: Experiment,
        input_spec: InputSpec,
    ) -> None:
        self.calibration = calibration
        self.experiment = experiment
        self.input_spec = input_spec
        self._named = config.base.metrics
        names = self._named or default_metrics()
        backbones = Backbones(config.base.backbones)
        self._metrics: dict[str, dict[str, BaseMetric]] = {
            category: {name: registry.metrics[name].build(calibration, backbones) for name in names} for category in categories
        }
        for metrics in self._metrics.values():
            built = list(metrics.values())
            for index, metric in enumerate(built):
                metric.share(built[:index])
        self._rows: list[Row] = []
        self._tiled = config.data.tile is not None
        self._resolution = Resolution("native" if config.data.tile else config.data.evaluate_at)
        self._reconstructs = False
        self._wanted = math.inf if config.base.pictures == "all" else config.base.pictures
        self._kept: dict[tuple[str, str], list[_Picture]] = {}
        self._saved = 0

    def update(self, batch: Batch, prediction: Prediction) -> None:
        """Take in a batch and its prediction, both on the CPU."""
        self._reconstructs |= prediction.reconstruction is not None
        for part, predicted in self._parts(batch, prediction):
            self._resolution.take(predicted)
            for name, metric in self._metrics[part.samples[0].category].items():
                whole = registry.metrics[name].spec.needs != "reconstruction"
                for pair in [(part, predicted)] if whole else blocks(part, predicted):
                    metric.update(*pair)
        rows = [self._row(*pair) for pair in zip(batch.samples, prediction.scores.tolist(), strict=True)]
        self._rows += rows
        for index, row in enumerate(rows):
            self._consider(index, row, batch, prediction)

    def finish(self, label: str, figures: Metrics, rate: float, fit_seconds: float) -> RunResult:
        """Compute and write metrics, predictions and pictures.

        Args:
            label: the category, or ``unified``.
            figures: what the method tells of itself, which stands beside the metrics.
            rate: images a second.
            fit_seconds: of fitting.
        """
        undefined: dict[str, str] = {}
        per_category: dict[str, Metrics] = {
            category: {name: _compute(metric, name, undefined) for name, metric in metrics.items() if self._applies(name)}
            for category, metrics in self._metrics.items()
        }
        values: Metrics = {**mean_metrics(per_category.values()), **figures}
        several = per_category if len(per_category) > 1 else {}
        interval = self.calibration.false_alarm_interval()
        self.experiment.write_json(CURVES, {category: _curves(metrics) for category, metrics in self._metrics.items()})
        self._save_chosen()
        self.experiment.write_rows(PREDICTIONS, self._rows)
        beside = {
            "undefined": undefined,
            "oracles": [name for name in values if is_oracle(name)],
            "categories": several,
            "threshold": self.calibration.threshold,
            "threshold_source": self.calibration.source,
            "false_alarm_rate": {
                "asked": self.calibration.false_alarm_rate,
                "low": None if interval is None else interval[0],
                "high": None if interval is None else interval[1],
            },
            **self._resolution.to_dict(),
            "images": len(self._rows),
        }
        self.experiment.write_json(METRICS, {**values, **beside})
        return RunResult(
            folder=self.experiment.folder,
            category=label,
            metrics=values,
            undefined=undefined,
            predictions=self._rows,
            calibration=self.calibration,
            images_per_second=rate,
            fit_seconds=fit_seconds,
            per_category=several,
            resolution=self._resolution,
        )

    def _parts(self, batch: Batch, prediction: Prediction) -> Iterator[tuple[Batch, Prediction]]:
        """What the metrics are fed: parts of one category, at the resolution that was asked for."""
        if self._resolution.evaluated_at == "native" and not self._tiled:  # maps of tiles are native already
            yield from native_parts(batch, prediction, self.input_spec)
            return
        for category in dict.fromkeys(sample.category for sample in batch.samples):
            chosen = [i for i, sample in enumerate(batch.samples) if sample.category == category]
            yield (batch, prediction) if len(chosen) == len(batch) else select(batch, prediction, chosen)

    def _applies(self, name: str) -> bool:
        """Whether a default metric has anything to judge; one that the user named always speaks, if only to say why not."""
        return self._named is not None or self._reconstructs or registry.metrics[name].spec.needs != "reconstruction"

    def _row(self, sample: Sample, score: float) -> Row:
        verdict = self.calibration.is_anomalous(score)
        return {
            "path": str(sample.path),
            "category": sample.category,
            "defect": sample.defect,
            "label": "" if sample.label is None else sample.label,
            "score": repr(score),
            "is_anomalous": "" if verdict is None else int(verdict),
            "p_value": "" if verdict is None else repr(self.calibration.p_value(score)),
            "picture": "",
        }

    def _consider(self, index: int, row: Row, batch: Batch, prediction: Prediction) -> None:
        """Show the image at once where all are shown; else keep the first of every kind, no more than will be shown."""
        if prediction.maps is None:
            return
        sample = batch.samples[index]
        kept = self._kept.setdefault((sample.category, sample.defect), [])
        if len(kept) >= self._wanted:
            return
        mask = reduced(batch.masks[index]).clone() if batch.masks is not None and bool(batch.has_mask[index]) else None
        made = None if prediction.reconstruction is None else _bytes(reduced(prediction.reconstruction[index]))
        score = float(prediction.scores[index])
        image, anomaly_map = _bytes(reduced(batch.images[index])), reduced(prediction.maps[index])
        picture = _Picture(sample, score, image, anomaly_map, mask, made, row)
        if math.isinf(self._wanted):
            self._save(picture)
        else:
            picture.anomaly_map = picture.anomaly_map.clone()  # the batch's other maps may go
            kept.append(picture)
            self._drop_the_last()

    def _drop_the_last(self) -> None:
        """Of one too many, the last in the order of :meth:`_save_chosen`: what comes later can only push it further back."""
        queues = list(self._kept.values())
        if sum(map(len, queues)) > self._wanted:
            deepest = max(map(len, queues))
            [queue for queue in queues if len(queue) == deepest][-1].pop()

    def _save_chosen(self) -> None:
        """Images of each kind in turn, until the number that was asked for is reached."""
        queues = list(self._kept.values())
        turns = range(max(map(len, queues), default=0))
        for picture in [queue[turn] for turn in turns for queue in queues if turn < len(queue)]:
            self._save(picture)

    def _save(self, picture: _Picture) -> None:
        sample = picture.sample
        name = "-".join(part for part in (sample.category, sample.defect, sample.path.stem) if part)
        path = Path("maps") / f"{self._saved:04d}-{safe_name(name)}.png"
        self._saved += 1
        save_panel(
            self.experiment.folder / path,
            picture.image.float() / 255,
            picture.anomaly_map,
            picture.mask,
            self.calibration,
            title=f"{name}  score {picture.score:.4g}",
            reconstruction=None if picture.reconstruction is None else picture.reconstruction.float() / 255,
        )
        picture.row["picture"] = path.as_posix()


def default_metrics() -> list[str]:
    """The metrics that are computed when the user names none; one that cannot be used is a warning, for nobody asked for it."""
    names = []
    for component in registry.metrics.values():
        try:
            if component.spec.default:
                component.load()
                names.append(component.name)
        except PluginError as error:
            warnings.warn(f"{error} The run goes on without it.", stacklevel=2)
    return names


def select(batch: Batch, prediction: Prediction, chosen: list[int]) -> tuple[Batch, Prediction]:
    """The same batch and prediction with some of their images alone."""
    part = Batch(
        batch.images[chosen],
        batch.labels[chosen],
        None if batch.masks is None else batch.masks[chosen],
        batch.has_mask[chosen],
        [batch.samples[i] for i in chosen],
    )
    maps, reconstruction = (None if x is None else x[chosen] for x in (prediction.maps, prediction.reconstruction))
    return part, Prediction(prediction.scores[chosen], maps, reconstruction)


def blocks(batch: Batch, prediction: Prediction) -> Iterator[tuple[Batch, Prediction]]:
    """A large image and its reconstruction in blocks of 1024 pixels a side, each measured as an image of its own.

    A metric that compares the two at once would need many times the image's memory. Smaller images come as they are.
    """
    height, width = batch.images.shape[-2:]
    for top, bottom in spans(height, BLOCK, 0):
        for left, right in spans(width, BLOCK, 0):
            masks, maps, made = (
                None if part is None else part[..., top:bottom, left:right]
                for part in (batch.masks, prediction.maps, prediction.reconstruction)
            )
            block = replace(batch, images=batch.images[..., top:bottom, left:right], masks=masks)
            yield block, Prediction(prediction.scores, maps, made)


def _bytes(image: Tensor) -> Tensor:
    """float (3, H, W) in [0, 1] -> uint8: a quarter of the memory."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _curves(metrics: dict[str, BaseMetric]) -> dict[str, dict[str, list[float]]]:
    """What can be drawn of a category: ``{"pixel_roc": {"x": [...], "y": [...]}}``."""
    drawn: dict[str, dict[str, list[float]]] = {}
    for metric in metrics.values():
        try:
            drawn |= {name: {"x": list(x), "y": list(y)} for name, (x, y) in metric.curves().items()}
        except UndefinedMetric:  # said where the metric itself is reported
            continue
    return drawn


def _compute(metric: BaseMetric, name: str, undefined: dict[str, str]) -> float | None:
    try:
        return float(metric.compute())
    except UndefinedMetric as reason:
        undefined[name] = str(reason)
        return None
