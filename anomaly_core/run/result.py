"""The results of a run: metrics and a row for each test image, in memory and in metrics.json and predictions.csv."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from anomaly_core.discovery import registry
from anomaly_core.run.calibration import Calibration
from anomaly_core.run.records import Count, Finite
from anomaly_core.types import ANOMALOUS, NORMAL, Prediction

Values = dict[str, Finite | None]
_LEVELS, _PROMINENCE = ("image", "pixel", "reconstruction"), ("headline", "table", "detail")
Side = Annotated[int, Field(strict=True, ge=1)]
Regions = list[dict[str, Count | Finite | list[Count] | None]]


@dataclass(frozen=True)
class Measure:
    """The value of a metric, with everything needed to display it.

    Attributes:
        name: the metric's name in the registry.
        value: None if the metric is undefined; ``undefined`` is then the reason.
        categories: for a unified run, the value of each category.
        title, meaning, level, prominence, oracle, higher_is_better, bounded: from its :class:`~anomaly_core.MetricSpec`.
    """

    name: str
    value: Finite | None
    undefined: str = ""
    categories: Values = field(default_factory=dict)
    title: str = ""
    meaning: str = ""
    level: Literal["image", "pixel", "reconstruction"] = "image"
    prominence: Literal["headline", "table", "detail"] = "detail"
    oracle: bool = False
    higher_is_better: bool = True
    bounded: bool = False

    @classmethod
    def of(cls, name: str, value: float | None, undefined: str = "", categories: Values | None = None) -> Measure:
        """The measure of an installed metric."""
        spec = registry.metrics[name].spec
        shown = {key: getattr(spec, key) for key in ("level", "prominence", "oracle", "higher_is_better", "bounded")}
        return cls(name, value, undefined, categories or {}, spec.title or name.replace("_", " "), spec.summary, **shown)

    @property
    def label(self) -> str:
        """The name, marked if the metric is an oracle."""
        return f"{self.name} (oracle)" if self.oracle else self.name

    @property
    def rank(self) -> tuple[int, int, str]:
        """The sort key for display: by level, then prominence, then name."""
        return _LEVELS.index(self.level), _PROMINENCE.index(self.prominence), self.name


@dataclass
class TestedImage:
    """A row of predictions.csv: an image of the test set.

    Attributes:
        label: 0 normal, 1 anomalous, None unknown.
        score: the raw score; NaN if the method gave none, and then there is no verdict, and ``error`` says why.
        is_anomalous: the verdict at the run's threshold; None without one.
        p_value: share of normal images with at least this score; None without a threshold.
        picture: path of its picture, relative to the run's folder; empty if there is none.
        regions: facts of each region above the map threshold, as anomaly-predict lists them; None where it did not.
    """

    __test__ = False  # pytest would collect a class whose name starts with Test

    path: str
    category: str
    defect: str
    label: Annotated[int, Field(ge=0, le=1)] | None
    score: float
    is_anomalous: bool | None = None
    p_value: Annotated[float, Field(ge=0, le=1)] | None = None
    picture: str = ""
    error: str = ""
    regions: Regions | None = None

    def to_row(self) -> dict[str, Any]:
        """Cells of a CSV file; unknown values are empty; ``error`` and ``regions`` (JSON) are there only if there are any."""
        cells = {name: repr(value) if isinstance(value, float) else value for name, value in vars(self).items()}
        if cells.pop("regions") is not None:
            cells["regions"] = json.dumps(self.regions, allow_nan=False, separators=(",", ":"))
        if self.error:
            cells["score"] = None
        else:
            del cells["error"]
        return {name: "" if cell is None else int(cell) if cell in (True, False) else cell for name, cell in cells.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> TestedImage:
        """The image from a row of :meth:`to_row`; ValueError if a cell is missing, of the wrong type or out of range."""
        cells = {name: cell or (None if name in _OPTIONAL else "") for name, cell in row.items()}
        if cells.get("error") and not cells.get("score"):
            cells["score"] = "nan"
        listed = cells.pop("regions", "")
        image = _TESTED.validate_python(cells)
        image.regions = _REGIONS.validate_json(listed) if listed else None
        if math.isfinite(image.score) == bool(image.error) or (image.error and image.is_anomalous is not None):
            raise ValueError(f"score: {row.get('score')!r} of {image.path!r} is no finite number")
        return image


_OPTIONAL, _TESTED, _REGIONS = ("label", "is_anomalous", "p_value"), TypeAdapter(TestedImage), TypeAdapter(Regions)


@dataclass
class Resolution:
    """The resolution of the pixel metrics: the model's (``input``) or the images' own (``native``).

    ``smallest`` and ``largest`` are the (height, width) of the smallest and largest map by area; None without maps.
    """

    evaluated_at: Literal["input", "native"] = "input"
    smallest: tuple[Side, Side] | None = None
    largest: tuple[Side, Side] | None = None

    def take(self, prediction: Prediction) -> None:
        """Include the maps of a prediction."""
        if prediction.maps is not None:
            size = (int(prediction.maps.shape[-2]), int(prediction.maps.shape[-1]))
            self.smallest = min(self.smallest or size, size, key=math.prod)
            self.largest = max(self.largest or size, size, key=math.prod)

    def __str__(self) -> str:
        """In words, width first; empty without maps."""
        if self.smallest is None or self.largest is None:
            return ""
        sizes = dict.fromkeys(f"{width} × {height}" for height, width in (self.smallest, self.largest))
        whose = "the model's input" if self.evaluated_at == "input" else "the images' own"
        return f"{' to '.join(sizes)} pixels, {whose}"


@dataclass
class RunResult:
    """The results of one run.

    Attributes:
        category: the category, or ``unified``.
        measures: the metrics by name, in display order.
        figures: figures of the method and its fit, by name.
        predictions: a row for each test image.
        images_per_second, fit_seconds: scoring speed and fitting time, decoding included; 0 seconds for an evaluation.
    """

    folder: Path
    category: str
    measures: dict[str, Measure]
    figures: dict[str, float]
    predictions: list[TestedImage]
    calibration: Calibration
    images_per_second: float
    fit_seconds: float
    resolution: Resolution = field(default_factory=Resolution)

    @classmethod
    def of_files(
        cls,
        folder: Path,
        manifest: Mapping[str, Any],
        metrics: Mapping[str, Any],
        predictions: list[TestedImage],
        calibration: Calibration,
    ) -> RunResult:
        """The results from the contents of manifest.json and metrics.json; ValueError, KeyError or TypeError if damaged."""
        if TypeAdapter(Count).validate_python(metrics["images"]) != len(predictions):
            raise ValueError(f"it counts {metrics['images']} images, and there are {len(predictions)} predictions")
        described = {name: {"name": name, **facts} for name, facts in metrics["metrics"].items()}
        return cls(
            folder,
            manifest["category"],
            TypeAdapter(dict[str, Measure]).validate_python(described),
            TypeAdapter(dict[str, Finite]).validate_python(metrics["figures"]),
            predictions,
            calibration,
            manifest["test_images_per_second"],
            manifest.get("fit_seconds", 0.0),
            TypeAdapter(Resolution).validate_python(metrics["resolution"]),
        )

    @property
    def metrics(self) -> Values:
        """The value of each metric; None if it is undefined."""
        return {name: measure.value for name, measure in self.measures.items()}

    @property
    def unscored(self) -> list[TestedImage]:
        """The test images whose scores are not finite."""
        return [row for row in self.predictions if row.error]

    @property
    def undefined(self) -> dict[str, str]:
        """Why metrics have no value, by name."""
        return {name: measure.undefined for name, measure in self.measures.items() if measure.undefined}

    def outcome(self, category: str | None = None) -> str:
        """What the verdicts on the test set, or on one of its categories, came to: ``found 3 of 4 defects, ...``."""
        rows = [row for row in self.predictions if category in (None, row.category)]
        return outcome(rows, self.calibration.operating_point())

    def metrics_json(self) -> dict[str, Any]:
        """The contents of metrics.json, which include each metric's description."""
        metrics = {name: {k: v for k, v in vars(m).items() if k != "name"} for name, m in self.measures.items()}
        facts = self.calibration
        threshold = {"value": facts.threshold, "source": facts.source, "false_alarm_rate": facts.false_alarm_rate}
        return {
            "metrics": metrics,
            "figures": self.figures,
            "threshold": {**threshold, "false_alarm_interval": facts.false_alarm_interval()},
            "resolution": dataclasses.asdict(self.resolution),
            "images": len(self.predictions),
        }


@dataclass
class RunResults:
    """The results of an experiment: a run for each category (or one, unified); empty outside the main process."""

    runs: list[RunResult]

    @property
    def metrics(self) -> Values:
        """The mean over categories; None if a metric is undefined in one of them."""
        return mean_values([run.metrics for run in self.runs])

    @property
    def predictions(self) -> list[TestedImage]:
        """The rows of all runs."""
        return [row for run in self.runs for row in run.predictions]

    @property
    def folder(self) -> Path:
        """The run's folder; for several runs, the folder ``<output>/<dataset>`` that contains them."""
        return self.runs[0].folder if len(self.runs) == 1 else self.runs[0].folder.parents[2]


def outcome(rows: Iterable[TestedImage], threshold: str) -> str:
    """The verdicts counted, in words; ``threshold`` says at which one they were given, and is empty where there is none."""
    rows = list(rows)
    if not rows:
        return "no image was tested"
    judged = [row for row in rows if not row.error]
    unscored = len(rows) - len(judged)
    verdicts = [[row.is_anomalous for row in judged if row.label == label] for label in (ANOMALOUS, NORMAL, None)]
    defects, good, unknown = map(len, verdicts)
    found, alarms, called = (sum(map(bool, part)) for part in verdicts)
    scored = _counted(defects, "defect"), _counted(good, "good image"), _counted(unknown, "image") + " without a label"
    tested = [text for text, part in zip(scored, verdicts, strict=True) if part]
    texts = []
    if not threshold and tested:
        texts.append(f"no threshold, so no verdict on {', '.join(tested)}")
    elif tested:
        counts = [f"found {found:,} of {scored[0]}"] if defects else []
        counts += [f"{_counted(alarms, 'false alarm')} in {scored[1]}"] if good else []
        counts += [f"{called:,} of {scored[2]} called anomalous"] if unknown else []
        texts.append(", ".join([*counts, threshold]))
        texts += ["no good image was tested, so false alarms were not counted"] if defects and not good else []
        texts += ["no defect was tested"] if good and not defects else []
    texts += [f"{_counted(unscored, 'image')} without a score, and so without a verdict"] if unscored else []
    return "; ".join(texts)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def mean_values(rows: Iterable[Values]) -> Values:
    """The mean of each metric; None if it is undefined in one of the rows."""
    rows, means = list(rows), {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [value for row in rows if (value := row.get(name)) is not None]
        means[name] = sum(values) / len(values) if len(values) == len(rows) else None
    return means
