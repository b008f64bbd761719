"""What a run found, in memory and read again from its folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly_core.calibration import Calibration
from anomaly_core.errors import PluginError, RunError
from anomaly_core.experiment import MANIFEST, METRICS, PREDICTIONS, Experiment
from anomaly_core.registry import registry
from anomaly_core.types import Prediction

Row = dict[str, Any]
Metrics = dict[str, float | None]
# What predictions.csv holds in any case.
COLUMNS = ("path", "category", "defect", "label", "score")
# What metrics.json says beside the metrics themselves.
BESIDE = (
    "undefined",
    "oracles",
    "categories",
    "threshold",
    "threshold_source",
    "false_alarm_rate",
    "evaluated_at",
    "resolution",
    "images",
)


@dataclass
class Resolution:
    """The resolution at which pixels were judged, to stand beside the figures.

    Attributes:
        evaluated_at: ``input``, the model's; ``native``, the images' own.
        smallest, largest: (height, width) of the maps that were judged, by area; None without maps.
    """

    evaluated_at: str = "input"
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None

    def take(self, prediction: Prediction) -> None:
        """Count in the maps of a prediction."""
        if prediction.maps is None:
            return
        size = (int(prediction.maps.shape[-2]), int(prediction.maps.shape[-1]))
        self.smallest = min(self.smallest or size, size, key=_area)
        self.largest = max(self.largest or size, size, key=_area)

    def to_dict(self) -> dict[str, Any]:
        """The keys of metrics.json: ``resolution`` is [height, width], two of them where images differ, or null."""
        sizes = [list(size) for size in dict.fromkeys((self.smallest, self.largest)) if size is not None]
        return {"evaluated_at": self.evaluated_at, "resolution": sizes if len(sizes) > 1 else sizes[0] if sizes else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Resolution:
        """What :meth:`to_dict` wrote; without maps where the keys are missing."""
        found = values.get("resolution") or []
        pairs = [(int(size[0]), int(size[1])) for size in ([found] if found and isinstance(found[0], int) else found)]
        ends = (pairs[0], pairs[-1]) if pairs else (None, None)
        return cls(str(values.get("evaluated_at", "input")), *ends)

    def __str__(self) -> str:
        """In words, width first; empty without maps."""
        if self.smallest is None or self.largest is None:
            return ""
        sizes = list(dict.fromkeys(f"{width} × {height}" for height, width in (self.smallest, self.largest)))
        whose = "the model's input" if self.evaluated_at == "input" else "the images' own"
        return f"{' to '.join(sizes)} pixels, {whose}"


@dataclass
class RunResult:
    """What one run found.

    Attributes:
        folder: the run's folder.
        category: the category, or ``unified``.
        metrics: value by name; None where a metric is undefined.
        undefined: the reason, for each metric that is.
        predictions: a row a test image: path, category, defect, label, score, is_anomalous, p_value, picture.
        calibration: the threshold and where it came from.
        images_per_second: of scoring, decoding included.
        fit_seconds: of fitting, decoding included.
        per_category: of a unified run, each category's metrics.
        resolution: at which pixels were judged.
    """

    folder: Path
    category: str
    metrics: Metrics
    undefined: dict[str, str]
    predictions: list[Row]
    calibration: Calibration
    images_per_second: float
    fit_seconds: float
    per_category: dict[str, Metrics] = field(default_factory=dict)
    resolution: Resolution = field(default_factory=Resolution)

    @classmethod
    def load(cls, folder: str | Path) -> RunResult:
        """What a complete run left in its folder; RunError where it is none."""
        experiment = Experiment.open(folder)
        manifest, metrics = experiment.read_json(MANIFEST), experiment.read_json(METRICS)
        rows = _rows(experiment.folder / PREDICTIONS)
        return cls(
            folder=experiment.folder,
            category=str(manifest.get("category") or experiment.folder.parents[1].name),
            metrics={name: value for name, value in metrics.items() if name not in BESIDE},
            undefined=metrics.get("undefined", {}),
            predictions=rows,
            calibration=experiment.calibration(),
            images_per_second=float(manifest.get("test_images_per_second", 0.0)),
            fit_seconds=float(manifest.get("fit_seconds", 0.0)),
            per_category=metrics.get("categories", {}),
            resolution=Resolution.from_dict(metrics),
        )


@dataclass
class ExperimentResult:
    """What an experiment found: a run for each category (or one, unified), and their mean.

    Attributes:
        runs: one result a model; none in a process that is not the main one of several.
    """

    runs: list[RunResult]

    @property
    def metrics(self) -> Metrics:
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


def mean_metrics(rows: Iterable[Metrics]) -> Metrics:
    """The mean of each metric; None where it is undefined in one of the rows."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    means: Metrics = {}
    for name in names:
        values = [row.get(name) for row in rows]
        numbers = [value for value in values if value is not None]
        means[name] = sum(numbers) / len(numbers) if len(numbers) == len(values) else None
    return means


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = list(reader)
    except (OSError, csv.Error) as error:
        raise RunError(f"cannot read {str(path)!r}: {error}. The run is damaged; run it again.") from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if rows and missing:
        raise RunError(f"{str(path)!r} has no column {', '.join(missing)}. The run is damaged; run it again.")
    return rows


def is_oracle(name: str) -> bool:
    """Whether a metric chooses its threshold on the test set itself, which must be said wherever it is shown."""
    try:
        return bool(registry.metrics[name].spec.oracle)
    except PluginError:  # a method's own figure, or the metric of a plugin that is not installed
        return False


def labelled(name: str) -> str:
    """A metric's name, with what must be said of it."""
    return f"{name} (oracle)" if is_oracle(name) else name


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
