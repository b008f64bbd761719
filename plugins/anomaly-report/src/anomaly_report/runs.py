"""All runs below a folder: complete, incomplete or damaged, each a row of the leaderboard."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from anomaly_core import CONFIG, MANIFEST, METRICS, Measure, RunError, RunFolder, Values, registry

# libyaml's parser where PyYAML was built with it: ten times as fast, which ten thousand runs notice.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MEASURES = TypeAdapter(dict[str, Measure])


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        folder: where it lies.
        status: ``complete``; ``running``, ``failed``, ``interrupted`` as the manifest says; ``incomplete``; ``damaged``.
        reason: why it is not complete, in words.
        preset: empty where none was chosen.
        unified: one model on several categories.
        source: where its images lay, where no data set that is published says which they are; empty where a product is named.
        place: the end of that path in brackets, where another product has the same name.
        native: pixels were judged at the images' own resolution, which no run at the model's is compared with.
        measures: the metrics by name, as the run's folder describes them; nothing that a method says of itself.
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
    source: str = ""
    place: str = ""
    native: bool = False
    seed: int | None = None
    measures: dict[str, Measure] = field(default_factory=dict)
    fit_seconds: float | None = None
    images_per_second: float | None = None
    started: float | None = None

    @property
    def metrics(self) -> Values:
        """The value of each metric; None where it is undefined."""
        return {name: measure.value for name, measure in self.measures.items()}

    @property
    def by_category(self) -> dict[str, Values]:
        """The same for each category of a unified run; for the only one of another."""
        if not self.unified:
            return {f"{self.category}{self.place}": self.metrics}
        categories = dict.fromkeys(name for measure in self.measures.values() for name in measure.categories)
        return {
            f"{category}{self.place}": {name: measure.categories.get(category) for name, measure in self.measures.items()}
            for category in categories
        }


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's, complete or not."""
    return (folder / MANIFEST).exists() or (folder / CONFIG).exists()


def read_runs(folder: str | Path, *, verify: bool = True) -> list[RunRow]:
    """The runs below a folder, by path. Nothing in a run's own folder is looked into: its evaluations are its own affair.

    Args:
        verify: whether a run's files must be as it wrote them, by their SHA-256; else it is ``damaged``.
    """
    return [read_run(path, verify=verify) for path in _folders(Path(folder))]


def read_run(folder: Path, *, verify: bool = True) -> RunRow:
    """What a leaderboard shows of a run; never raises for what the folder holds."""
    place = folder.absolute().parents
    run = RunFolder(folder, verify)
    sections = _safe_sections(run)
    named: dict[str, Any] = {
        "dataset": _text(sections.get("data", {}).get("name")) or (place[2].name if len(place) > 2 else ""),
        "category": place[1].name if len(place) > 1 else "",
        "model": _text(sections.get("model", {}).get("name")) or place[0].name,
        "preset": _text(sections.get("base", {}).get("preset")),
        "source": source_of(sections.get("data", {})),
    }
    if not (folder / MANIFEST).exists():
        return RunRow(folder, "incomplete", f"there is no {MANIFEST}", **named)
    try:
        manifest = run.manifest()
        named["category"] = manifest.get("category", named["category"])
        if manifest["status"] != "complete":
            reason = manifest.get("error") or _unfinished(manifest["status"])
            return RunRow(folder, manifest["status"], brief(reason), **named)
        values = run.read_json(METRICS)
        measures = _measures(values["metrics"])
        return RunRow(
            folder,
            "complete",
            **named,
            unified=any(measure.categories for measure in measures.values()),
            native=values["resolution"]["evaluated_at"] == "native",
            seed=manifest.get("seed"),
            measures=measures,
            fit_seconds=manifest.get("fit_seconds"),
            images_per_second=manifest.get("test_images_per_second"),
            started=manifest.get("started"),
        )
    except RunError as error:
        return RunRow(folder, "damaged", brief(error), **named)
    except KeyError as error:
        return RunRow(folder, "damaged", f"{METRICS}: it has no {error}", **named)
    except (ValueError, AttributeError, TypeError) as error:
        return RunRow(folder, "damaged", f"{METRICS}: {brief(error)}", **named)


def read_sections(text: str) -> dict[str, dict[str, Any]]:
    """The sections of a config.yaml as they are written; none where it is no YAML.

    The core's own reading would import the plugins that the run used, which need not be installed to look at it.
    """
    try:
        values = yaml.load(text, Loader=_Loader)  # a safe loader in both cases
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return {}
    return {str(k): v for k, v in values.items() if isinstance(v, dict)} if isinstance(values, dict) else {}


def source_of(data: Mapping[str, Any]) -> str:
    """Where the images of a run's config lie; empty where their names say it, as those of a product or a published data set do.

    Text and nothing else is looked at: a few lines of YAML can hold a list of gigabytes.
    """
    if data.get("product"):
        return ""
    named = [data.get(name) for name in ("normal", "images", "list")]
    places = [place for value in named for place in (value[:20] if isinstance(value, list) else [value])]
    known = [os.path.normpath(place) for place in places if isinstance(place, str) and place]
    if not known and isinstance(data.get("root"), str) and not _is_published(data.get("name")):
        known = [os.path.normpath(data["root"])]
    return ", ".join(known)


def _is_published(dataset: object) -> bool:
    """Whether a data set is the same wherever it lies."""
    component = registry.datasets.get(dataset) if isinstance(dataset, str) else None
    return component is not None and bool(component.spec.license)


def _folders(folder: Path) -> Iterator[Path]:
    waiting = [folder]  # not os.walk, which fails at the thousandth folder in a folder; links are not followed
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as found:
                entries = {entry.name: entry for entry in found}
        except OSError:
            continue
        if MANIFEST in entries or CONFIG in entries:
            yield place
            continue
        below = [name for name, entry in entries.items() if not name.startswith(".") and entry.is_dir(follow_symlinks=False)]
        waiting += [place / name for name in sorted(below, reverse=True)]


def _safe_sections(run: RunFolder) -> dict[str, dict[str, Any]]:
    try:
        return read_sections(run.read(CONFIG).decode("utf-8", "replace"))
    except RunError:
        return {}


def _measures(values: dict[str, Any]) -> dict[str, Measure]:
    """The metrics of metrics.json in the order in which they are shown; ValueError for what cannot be shown."""
    measures = _MEASURES.validate_python({name: {"name": name, **facts} for name, facts in values.items()})
    ordered = sorted(measures.values(), key=_rank)
    return {measure.name: _without_nan(measure) for measure in ordered}


def _rank(measure: Measure) -> tuple[int, int, str]:
    try:
        return measure.rank
    except ValueError:
        raise ValueError(
            f"the metric {measure.name!r} has the level {measure.level!r} and the prominence {measure.prominence!r}, one of "
            "which is not known here; update anomaly-core"
        ) from None


def _without_nan(measure: Measure) -> Measure:
    """None in place of NaN and of what is infinite."""
    categories = {name: _number(value) for name, value in measure.categories.items()}
    return replace(measure, value=_number(measure.value), categories=categories)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _text(value: Any) -> str:
    """Text as it is, and nothing else: a few lines of YAML can hold a list of gigabytes."""
    return value if isinstance(value, str) else ""


def brief(text: object) -> str:
    """In one line of at most 600 characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= 600 else f"{line[:599]}…"


def _unfinished(status: str) -> str:
    return "it is running, or was killed" if status == "running" else "the manifest says so"
