"""All runs below a folder: complete, incomplete or damaged, each a row of the leaderboard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anomaly_core.experiment import CONFIG, MANIFEST, METRICS
from anomaly_report.words import is_metric

# libyaml's parser where PyYAML was built with it: ten times as fast, which ten thousand runs notice.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        folder: where it lies.
        status: ``complete``; ``running``, ``failed``, ``interrupted`` as the manifest says; ``incomplete``; ``damaged``.
        reason: why it is not complete, in words.
        preset: empty where none was chosen.
        unified: one model on several categories.
        native: pixels were judged at the images' own resolution, which no run at the model's is compared with.
        metrics: name -> value, None where it is undefined; metrics alone, nothing that a method tells of itself.
        per_category: the same for each category of a unified run.
        fit_seconds, images_per_second, started: None where they are not known.
    """

    folder: Path
    status: str
    reason: str = ""
    dataset: str = ""
    category: str = ""
    model: str = ""
    preset: str = ""
    unified: bool = False
    native: bool = False
    seed: int | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    per_category: dict[str, dict[str, float | None]] = field(default_factory=dict)
    fit_seconds: float | None = None
    images_per_second: float | None = None
    started: float | None = None


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's, complete or not."""
    return (folder / MANIFEST).is_file() or (folder / CONFIG).is_file()


def read_runs(folder: str | Path) -> list[RunRow]:
    """The runs below a folder, by path. Nothing in a run's own folder is looked into: its evaluations are its own affair."""
    return [read_run(found) for found in _folders(Path(folder))]


def read_run(folder: Path) -> RunRow:
    """What a leaderboard shows of a run; never raises for what the folder holds."""
    place = folder.absolute().parents
    sections = _safe_sections(folder)
    named: dict[str, Any] = {
        "dataset": _text(sections.get("data", {}).get("name")) or (place[2].name if len(place) > 2 else ""),
        "category": place[1].name if len(place) > 1 else "",
        "model": _text(sections.get("model", {}).get("name")) or place[0].name,
        "preset": _text(sections.get("base", {}).get("preset")),
    }
    try:
        manifest = _json(folder / MANIFEST)
    except FileNotFoundError:
        return RunRow(folder, "incomplete", f"there is no {MANIFEST}", **named)
    except (OSError, ValueError) as error:
        return RunRow(folder, "damaged", f"{MANIFEST}: {error}", **named)
    named["category"] = _text(manifest.get("category")) or named["category"]
    status = _text(manifest.get("status"))
    if status != "complete":
        return RunRow(folder, status or "damaged", _text(manifest.get("error")) or _unfinished(status), **named)
    try:
        metrics = _json(folder / METRICS)
        return RunRow(
            folder,
            "complete",
            **named,
            unified=bool(metrics.get("categories")),
            native=metrics.get("evaluated_at") == "native",
            seed=_integer(manifest.get("seed")),
            metrics=_metrics(metrics),
            per_category={str(name): _metrics(values) for name, values in (metrics.get("categories") or {}).items()},
            fit_seconds=_number(manifest.get("fit_seconds")),
            images_per_second=_number(manifest.get("test_images_per_second")),
            started=_number(manifest.get("started")),
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return RunRow(folder, "damaged", f"{METRICS}: {error}", **named)


def read_sections(text: str) -> dict[str, dict[str, Any]]:
    """The sections of a config.yaml as they are written; none where it is no YAML.

    The core's own reading would import the plugins that the run used, which need not be installed to look at it.
    """
    try:
        values = yaml.load(text, Loader=_Loader)  # a safe loader in both cases
    except (yaml.YAMLError, ValueError):
        return {}
    return {str(k): v for k, v in values.items() if isinstance(v, dict)} if isinstance(values, dict) else {}


def _folders(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        if MANIFEST in files or CONFIG in files:
            folders.clear()
            yield Path(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _safe_sections(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        return read_sections((folder / CONFIG).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def _json(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError("it holds no object")
    return values


def _metrics(values: dict[str, Any]) -> dict[str, float | None]:
    return {str(name): _number(value) for name, value in values.items() if is_metric(name)}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _unfinished(status: str) -> str:
    return "it is running, or was killed" if status == "running" else "the manifest says so" if status else "no status"
