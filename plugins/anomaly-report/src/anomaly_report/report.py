"""A run's report: ``report.html`` in its folder, and its figures as files where they are asked for."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anomaly_core import Measure, RunFolder, quoted, write_whole
from anomaly_report.figures.examples import examples
from anomaly_report.figures.plans import WRITE_ELSEWHERE, drawn, write_figures
from anomaly_report.finished import SHOWN, FinishedRun, Image, without
from anomaly_report.kinds import defect_kinds
from anomaly_report.normals import odd_images
from anomaly_report.page import relative_url, render
from anomaly_report.panels import panel_png
from anomaly_report.runs import read_sections
from anomaly_report.thresholds import former, headline, kind_of_normals, promise, shell_path
from anomaly_report.verdicts import Oracle, Scale

REPORT = "report.html"
MOST_EMBEDDED = 1 << 28  # bytes of pictures in a page that stands alone
SCRIPTS = ["scores.js", "threshold.js", "gallery.js", "report.js"]

# The page's own numbers, computed by its script: key, name, meaning.
VERDICT_RATES = [
    ("accuracy", "Accuracy", "right verdicts among all images"),
    ("precision", "Precision", "true anomalies among the alarms"),
    ("recall", "Recall", "anomalies found among all anomalies"),
    ("f1", "F1", "balance of precision and recall"),
    ("alarms", "False-alarm rate", "normal images called anomalous"),
]


def write_report(
    folder: str | Path, output: str | Path | None = None, *, verify: bool = True, figures: str | None = None
) -> Path:
    """Write ``report.html`` of a complete run, in place of one that may be there.

    Args:
        folder: the run's.
        output: another file for the page, which then holds all pictures itself; nothing is written into the run's folder.
        verify: whether the run's files must be as it wrote them, by their SHA-256.
        figures: writes the page's figures as files too, ``png``, ``pdf`` or ``svg``, into ``figures/`` beside the page.

    Returns:
        the page.

    Raises:
        RunError: the run is not complete, its folder is damaged or cannot be written.
    """
    run = FinishedRun.read(folder, verify)
    odd, normals = odd_images(RunFolder(folder, verify), run.notes)
    place = run.folder / REPORT if output is None else Path(output)
    if figures is not None:
        write_figures(run, place.parent, figures)
    run, link = (run, relative_url) if output is None else _embedded(run, [image.picture for image in odd])
    labels = {image.label for image in run.images}
    data = page_data(run, link)
    page = render(
        "report.html",
        SCRIPTS,
        data,
        link,
        title=f"{_dataset(run)} · {run.result.category} · {_model(run)}",
        run=run,
        alone=output is not None,
        facts=_facts(run),
        tiles=_tiles(run),
        metrics=[_metric(measure) for measure in run.result.measures.values()],
        figures_of_method=[(name.replace("_", " "), _number(value)) for name, value in run.result.figures.items()],
        by_category=[measure for measure in run.result.measures.values() if measure.categories],
        kinds=defect_kinds(run),
        number=_number,
        score=_score,
        warnings=_warnings(run),
        calibration=run.result.calibration,
        promise=promise(run.result.calibration),
        headline=headline(run),
        former=former(run),
        when=_when,
        figures=drawn(run),
        command=f"anomaly report {quoted(run.folder.absolute())} --figures pdf",
        examples=examples(run),
        odd=odd,
        normals=normals,
        scale=Scale.of(run),
        oracle=Oracle.of(run),
        labelled=bool(labels - {None}),
        unlabelled=None in labels,
        rates=VERDICT_RATES,
        verdicts=_verdicts(labels),
        defects=data["defects"],
        pictures_differ=len({bool(picture) for picture in data["pictures"]}) > 1,
        versions=run.manifest.get("versions", {}),
    )
    write_whole(place, page, WRITE_ELSEWHERE)
    return place


def _embedded(run: FinishedRun, more: list[str]) -> tuple[FinishedRun, Callable[[str], str]]:
    """For a page that stands alone: the run without the pictures that cannot be in it, and what makes URLs of the others.

    Args:
        more: further pictures.
    """
    urls: dict[str, str] = {}
    refused: dict[str, str] = {}
    left = MOST_EMBEDDED
    for name in dict.fromkeys(name for name in (*(image.picture for image in run.images), *more) if name):
        try:
            content = panel_png(run.folder, name)
            left -= len(content)
            if left < 0:
                raise OSError(f"the page would have more than {MOST_EMBEDDED >> 20} MiB of pictures")
            urls[name] = _data_url(content)
        except OSError as error:
            refused[name] = str(error)
    return without(run, refused), lambda path: urls.get(path, "")


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def page_data(run: FinishedRun, link: Callable[[str], str] = relative_url) -> dict[str, Any]:
    """What the page's scripts read: the test images by columns, which is a third of the size that objects would have.

    Args:
        link: makes a URL of a picture's path.
    """
    oracle, scale = Oracle.of(run), Scale.of(run)
    defects = {name: number for number, name in enumerate(dict.fromkeys(image.defect for image in run.images))}
    categories = {name: number for number, name in enumerate(run.categories)}
    sizes = {size: number for number, size in enumerate(dict.fromkeys(run.sizes.values()))}
    return {
        "names": [image.name for image in run.images],
        "categories": run.categories,
        "category": [categories[image.category] for image in run.images],
        "defects": list(defects),
        "defect": [defects[image.defect] for image in run.images],
        "labels": [-1 if image.label is None else int(image.label > 0) for image in run.images],
        "scores": [image.score for image in run.images],
        "pictures": [link(image.picture) for image in run.images],
        "regions": [_regions(image) for image in run.images],
        "sizes": list(sizes),
        "size": [sizes[run.sizes[image.picture]] if image.picture else -1 for image in run.images],
        "threshold": run.threshold,
        "oracle": None if oracle is None else {"threshold": oracle.threshold, "f1": oracle.f1},
        "normals": [score for score in run.result.calibration.scores if math.isfinite(score)],
        "kindOfNormals": kind_of_normals(run.result.calibration),
        "run": shell_path(run),
        "scale": {"low": scale.low, "high": scale.high, "log": scale.log},
    }


def _regions(image: Image) -> list[Any] | None:
    """How many, and the numbers of those that the page shows: left, top, right, bottom, area, mm², peak, p-value."""
    if image.regions is None:
        return None
    rows = []
    for region in image.regions[:SHOWN]:
        box = region.get("box")
        numbers = [region.get(name) for name in ("area", "area_mm2", "peak", "p_value")]
        if isinstance(box, list) and len(box) == 4 and not any(isinstance(number, list) for number in numbers):
            rows.append([*box, *numbers])
    return [len(image.regions), *rows]


def _verdicts(labels: set[int | None]) -> list[str]:
    """The keys of the verdicts that images with these labels can have."""
    labelled = ["hit", "miss", "false-alarm", "correct"] if labels - {None} else []
    return labelled + (["flagged", "passed"] if None in labels else [])


def _facts(run: FinishedRun) -> list[tuple[str, str]]:
    """The summary's rows: what was fitted, on what, when and how long."""
    manifest, data = run.manifest, run.manifest.get("data", {})
    dropped, excluded = manifest.get("dropped", 0), manifest.get("excluded", 0)
    fit, held_out = (count if isinstance(count := data.get(part), int) else 0 for part in ("fit", "held_out"))
    kinds = {"fitted": fit - dropped, "held out": held_out, "dropped as suspects": dropped}
    counts = [f"{count:,} {what}" for what, count in kinds.items() if count > 0]
    facts = [
        ("Data set", _dataset(run)),
        ("Category", run.result.category if len(run.categories) < 2 else f"{run.result.category}: {', '.join(run.categories)}"),
        ("Method", _model(run)),
        ("Preset", _named(run, "base", "preset")),
        ("Normal images", ", ".join(counts)),
        ("Test images", f"{len(run.images):,}{_label_counts(run)}"),
        ("Left out by data.exclude", f"{excluded:,} image{'s' * (excluded > 1)}" if excluded else ""),
        ("Maps judged at", str(run.result.resolution)),
        ("Seed", str(manifest.get("seed", ""))),
        ("Started", _when(manifest.get("started"))),
        ("Fitting", _duration(run.result.fit_seconds)),
        ("Scoring", f"{run.result.images_per_second:.3g} images a second" if run.result.images_per_second else ""),
        ("Peak memory", f"{manifest['peak_memory_mb']:,.0f} MB" if manifest.get("peak_memory_mb") else ""),
        ("Evaluates the run", str(manifest.get("evaluates", ""))),
        ("Test images lie in", run.root),
    ]
    return [(name, value) for name, value in facts if value]


def _label_counts(run: FinishedRun) -> str:
    counts = {
        "normal": sum(image.label == 0 for image in run.images),
        "anomalous": sum(bool(image.label) for image in run.images),
        "without a label": sum(image.label is None for image in run.images),
    }
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    return f": {', '.join(parts)}" if parts else ""


def _tiles(run: FinishedRun) -> list[tuple[str, str, str]]:
    """The figures that a reader looks for after the headline: (name, value, beside it)."""
    tiles = []
    for measure in run.result.measures.values():
        if measure.prominence == "headline" and measure.value is not None:
            beside = "higher is better" if measure.higher_is_better else "lower is better"
            tiles.append((_title(measure), f"{measure.value:.3f}", beside))
    if run.result.images_per_second:
        tiles.append(("Speed", f"{run.result.images_per_second:.3g}", "images a second"))
    return tiles


def _metric(measure: Measure) -> dict[str, Any]:
    """A row of the table of metrics."""
    undefined = measure.undefined or "it has no value in one of the categories"
    return {
        "name": measure.title,
        "value": _number(measure.value),
        "meaning": measure.meaning,
        "oracle": measure.oracle,
        "undefined": undefined if measure.value is None else "",
    }


def _title(measure: Measure) -> str:
    return f"{measure.title} (oracle)" if measure.oracle else measure.title


def _warnings(run: FinishedRun) -> list[str]:
    """What is left out of the page, and what the run warned of; the threshold's own warning stands beside the threshold."""
    said = run.manifest.get("warnings", [])
    return [*run.notes, *(text for text in said if text != run.result.calibration.warning)]


def _dataset(run: FinishedRun) -> str:
    return _named(run, "data", "name") or _above(run, 2)


def _model(run: FinishedRun) -> str:
    return _named(run, "model", "name") or _above(run, 0)


def _named(run: FinishedRun, section: str, option: str) -> str:
    """Text in the run's config; empty where there is none."""
    value = read_sections(run.config_text).get(section, {}).get(option)
    return value if isinstance(value, str) else ""


def _above(run: FinishedRun, level: int) -> str:
    """The name of a folder above the run's, which `anomaly run` names after the data set and the model."""
    above = run.folder.absolute().parents
    return above[level].name if level < len(above) else ""


def _number(value: float | None) -> str:
    """Four digits after the point for shares, else what is needed; a dash where there is none."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) >= 2:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.5g}"


def _score(value: float) -> str:
    """Five digits, as the page's scripts write them."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3e}"
    return f"{float(f'{value:.5g}'):.10g}"


def _when(seconds: Any) -> str:
    try:
        return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):  # beyond the calendar
        return ""


def _duration(seconds: float) -> str:
    if not seconds:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
