"""What images and scores were like when the threshold was set: what a stream is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import TypeAdapter, ValidationError

from anomaly_core import MANIFEST, Calibration, Finite, RunError, parse_json, read_untrusted
from anomaly_drift.facts import FACTS

DRIFT = "drift.json"  # in a run's folder
KEPT = 200  # images whose facts are kept: an even share of more
_FORMAT = 1
_COLUMNS = TypeAdapter(dict[str, list[Finite]])


@dataclass(frozen=True)
class Reference:
    """What a stream is compared with.

    Attributes:
        calibration: the threshold and the scores of normal images behind it.
        facts: of those images, a column of values for each of :func:`image_facts`; empty where nobody kept them, and then the
            first images of the stream take their place.
    """

    calibration: Calibration
    facts: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, calibration: Calibration, images: Iterable[Mapping[str, float]] = ()) -> Reference:
        """The reference of a calibration, and of :func:`image_facts` of images that are as they ought to be."""
        return cls(calibration, columns(images))

    @classmethod
    def near(cls, source: str | Path, calibration: Calibration) -> Reference:
        """The reference of the run in the folder ``source``; of an exported file ``NAME.onnx``, what lies beside it as
        ``NAME.drift.json``, or that of the run whose folder it lies in.

        Raises:
            RunError: what the run kept of its images' facts is damaged.
        """
        path = Path(source)
        runs = [one for one in (path.parent, path.parent.parent) if (one / MANIFEST).is_file()]
        places = [path / DRIFT] if path.is_dir() else [path.with_suffix(f".{DRIFT}"), *(run / DRIFT for run in runs)]
        found = next((place for place in places if place.is_file()), None)
        return cls(calibration) if found is None else cls(calibration, read_facts(found))

    @property
    def usual(self) -> dict[str, float]:
        """The median of each fact."""
        return {name: median(values) for name, values in self.facts.items()}

    @property
    def expected(self) -> float:
        """The share of false alarms that the threshold is for."""
        calibration = self.calibration
        return max(calibration.false_alarm_rate, 1 / (calibration.count + 1) if calibration.count else 0.0)


def columns(images: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """A column of values for each fact, of at most :data:`KEPT` images, evenly chosen."""
    rows = list(images)
    if len(rows) > KEPT:
        rows = [rows[place * len(rows) // KEPT] for place in range(KEPT)]
    return {name: [float(row[name]) for row in rows] for name in FACTS if rows and all(name in row for row in rows)}


def facts_file(images: Iterable[Mapping[str, float]]) -> dict[str, Any]:
    """The content of a run's ``drift.json``."""
    rounded = {name: [float(f"{value:.6g}") for value in values] for name, values in columns(images).items()}
    return {"format": _FORMAT, "facts": rounded}


def read_facts(path: Path) -> dict[str, list[float]]:
    """The columns in a file of :func:`facts_file`.

    Raises:
        RunError: it cannot be read, or is none.
    """
    try:
        content = parse_json(read_untrusted(path))
        found = _COLUMNS.validate_python(content["facts"])
        if content["format"] != _FORMAT or len({len(values) for values in found.values()}) > 1:
            raise ValueError("it is of another format, or its columns differ in length")
    except (OSError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise RunError(
            f"cannot read {str(path)!r}, the facts of the images that set the threshold: {error}. Delete it, and the first "
            "images that come take their place; or fit the run again."
        ) from error
    return {name: values for name, values in found.items() if name in FACTS and values}
