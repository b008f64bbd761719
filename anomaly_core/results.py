"""What a run found, in memory and read again from its folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly_core.calibration import Calibration
from anomaly_core.experiment import MANIFEST, METRICS, PREDICTIONS, Experiment

Row = dict[str, Any]
Metrics = dict[str, float | None]
# What metrics.json says beside the metrics themselves.
BESIDE = ("undefined", "categories", "threshold", "threshold_source", "resolution", "images")


@dataclass
class RunResult:
    """What one run found.

    Attributes:
        folder: the run's folder.
        category: the category, or ``unified``.
        metrics: value by name; None where a metric is undefined.
        undefined: the reason, for each metric that is.
        predictions: a row a test image: path, category, defect, label, score, is_anomalous, picture.
        calibration: the threshold and where it came from.
        images_per_second: of scoring, decoding included.
        fit_seconds: of fitting, decoding included.
        per_category: of a unified run, each category's metrics.
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

    @classmethod
    def load(cls, folder: str | Path) -> RunResult:
        """What a complete run left in its folder; RunError where it is none."""
        experiment = Experiment.open(folder)
        manifest, metrics = experiment.read_json(MANIFEST), experiment.read_json(METRICS)
        rows = experiment.read_rows(PREDICTIONS)
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
