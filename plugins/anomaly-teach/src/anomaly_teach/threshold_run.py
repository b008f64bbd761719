"""A finished run with another threshold: its verdicts, its metrics and its report follow, and the former one is kept."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anomaly_core import (
    CALIBRATION,
    MANIFEST,
    METRICS,
    NORMALS,
    PREDICTIONS,
    AnomalyError,
    Calibration,
    Hooks,
    Measure,
    NormalImage,
    RunError,
    RunFolder,
    RunResult,
    TestedImage,
    quoted,
    registry,
    require_training,
)

CURVES = "curves.json"
FORMER = "former_thresholds"  # in the manifest
USED, USED_ROWS, USED_LIST = "threshold_images", "threshold_images.csv", "threshold_images.txt"


@dataclass(frozen=True)
class Change:
    """What is to be written.

    Attributes:
        calibration: the new one.
        normals: rows of normals.csv, if other images than before set the threshold.
        used: images of the test set that chose the threshold, and test no more.
    """

    calibration: Calibration
    normals: Sequence[NormalImage] | None = None
    used: Sequence[TestedImage] = ()


def require_changeable(run: RunFolder) -> None:
    """RunError if the folder is that of an evaluation: its run has the threshold."""
    if evaluated := run.manifest().get("evaluates"):
        raise RunError(
            f"{str(run.folder)!r} is an evaluation, and its threshold is that of the run {evaluated!r}: change it there, and "
            "evaluate again."
        )


def change_run(run: RunFolder, change: Change) -> RunResult:
    """Write a new threshold, and what follows from it; call it with the run locked.

    Written anew are calibration.json, the verdicts and p-values in predictions.csv, metrics.json and what observers make of
    it: the report. What rests on the maps cannot be computed from scores: with another map threshold the regions are left
    out of predictions.csv, and metrics at it are undefined, until ``anomaly evaluate`` scores the images again.

    Raises:
        RunError: the run is damaged, or cannot be written.
        MissingLibrary: torch, which computes the metrics, is not installed.
    """
    require_training("changing the threshold of a run, whose metrics are computed anew,")
    from anomaly_core import build_data, excluded

    before, manifest = run.result(), run.manifest()
    # The new list takes the place of the run's own data.exclude, whose images must not test now either.
    former_list = excluded(build_data(run.config()), strict=False) if change.used else {}
    result = judged(run, before, change)
    former: dict[str, Any] = {"time": time.time(), **_facts(before.calibration)}
    if change.normals is not None:  # other scores than before: keep those
        former |= _kept(run, len(manifest.get(FORMER, [])) + 1)
    manifest[FORMER] = [*manifest.get(FORMER, []), former]
    stale, warning = before.calibration.warning, change.calibration.warning
    told = [text for text in manifest.get("warnings", []) if text not in (stale, warning)]
    manifest["warnings"] = [*told, *([warning] if warning else [])]
    if change.used:
        used = {row.path: row for row in [*used_before(run), *change.used]}
        manifest[USED] = list(used)
        run.write_rows(USED_ROWS, (row.to_row() for row in used.values()))
        lines = [*former_list, *(str(Path(path).absolute()) for path in used)]
        run.write(USED_LIST, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    run.write_json(MANIFEST, manifest)  # first: the former threshold is never lost
    run.write_json(CALIBRATION, change.calibration.to_dict())
    if change.normals is not None:
        run.write_rows(NORMALS, (image.to_row() for image in change.normals))
    run.write_rows(PREDICTIONS, (row.to_row() for row in result.predictions))
    if len(result.predictions) < len(before.predictions):
        run.write_json(CURVES, {category: {} for category in {row.category for row in result.predictions}})
    run.write_json(METRICS, result.metrics_json())
    Hooks(registry).call("anomaly_run_end", run=run, results=result)
    return result


def used_before(run: RunFolder) -> list[TestedImage]:
    """The images of the test set that chose a threshold before; RunError if their list is damaged."""
    named = run.manifest().get(USED, [])
    if not named:
        return []
    try:
        rows = [TestedImage.from_row(row) for row in run.read_rows(USED_ROWS)]
    except ValueError as error:
        raise RunError(f"cannot read {str(run.folder / USED_ROWS)!r}: {error}. Give images with --abnormal DIR.") from error
    if [row.path for row in rows] != named:
        raise RunError(f"{USED_ROWS} does not hold the images that {MANIFEST} names. Give images with --abnormal DIR.")
    return rows


def evaluation_of(run: RunFolder, fewer: bool = False) -> str:
    """The command that tests the run again, without the images that chose a threshold."""
    used = run.folder / USED_LIST
    without = f" --set {quoted(f'data.exclude={used}')}" if fewer or used.is_file() else ""
    return f"anomaly evaluate {quoted(run.folder)}{without}"


def judged(run: RunFolder, before: RunResult, change: Change) -> RunResult:
    """The results at the new threshold, computed from the scores."""
    used = {row.path for row in change.used}
    rows = [_row(row, before.calibration, change.calibration) for row in before.predictions if row.path not in used]
    fewer = len(rows) < len(before.predictions)
    measures = _measures(run, before, change.calibration, rows, fewer)
    return replace(before, calibration=change.calibration, predictions=rows, measures=measures)


def _row(row: TestedImage, before: Calibration, after: Calibration) -> TestedImage:
    if row.error:
        return row
    same = (before.map_threshold, before.map_maxima) == (after.map_threshold, after.map_maxima)
    verdict, p_value = after.is_anomalous(row.score), after.p_value(row.score)
    return replace(row, is_anomalous=verdict, p_value=p_value, regions=row.regions if same else None)


def _measures(
    run: RunFolder, before: RunResult, calibration: Calibration, rows: list[TestedImage], fewer: bool
) -> dict[str, Measure]:
    """Each metric at the new threshold and on these rows; undefined if scores alone do not tell it."""
    measures, again = dict(before.measures), []
    step = f"`{evaluation_of(run, fewer)}` measures it"
    for name, measure in measures.items():
        spec = registry.metrics[name].spec if name in registry.metrics else None
        if spec is not None and measure.level == "image":
            if fewer or spec.at_threshold:
                again.append(name)
        elif fewer:
            measures[name] = _undefined(measure, f"the test set has fewer images than when it was measured; {step}")
        elif spec is None:
            measures[name] = _undefined(measure, f"it was measured at another threshold, and is not installed here; {step}")
        elif spec.at_threshold and before.calibration.map_threshold != calibration.map_threshold:
            measures[name] = _undefined(measure, f"it was measured at another map threshold; {step}")
    return measures | (_from_scores(run, again, calibration, rows) if again else {})


def _undefined(measure: Measure, reason: str) -> Measure:
    return replace(measure, value=None, undefined=reason, categories=dict.fromkeys(measure.categories))


def _from_scores(
    run: RunFolder, names: Collection[str], calibration: Calibration, rows: Sequence[TestedImage]
) -> dict[str, Measure]:
    """Metrics of image scores."""
    import torch

    from anomaly_core import Batch, Evaluator, InputSpec, Prediction, Sample

    scored = [row for row in rows if not row.error]
    categories = list(dict.fromkeys(row.category for row in rows))
    config = run.config().replace(**{"base.metrics": list(names)})
    evaluator = Evaluator(config, calibration, categories, InputSpec(size=(1, 1)))
    samples = [Sample(path=Path(row.path), category=row.category, label=row.label, defect=row.defect) for row in scored]
    labels = torch.tensor([-1 if row.label is None else row.label for row in scored])
    images, none = torch.empty(len(scored), 3, 0, 0), torch.zeros(len(scored), dtype=torch.bool)
    if scored:
        scores = torch.tensor([row.score for row in scored], dtype=torch.float64)
        evaluator.update(Batch(images, labels, None, none, samples), Prediction(scores))
    return evaluator.evaluation().measures


def _facts(calibration: Calibration) -> dict[str, Any]:
    names = ("threshold", "map_threshold", "false_alarm_rate", "chosen_by", "source", "count")
    return {name: getattr(calibration, name) for name in names}


def _kept(run: RunFolder, number: int) -> dict[str, str]:
    """Copies of the scores that are replaced, as ``calibration.1.json`` and ``normals.1.csv``."""
    names = {}
    for name in (CALIBRATION, NORMALS):
        stem, _, suffix = name.partition(".")
        if (run.folder / name).is_file():
            try:
                run.write(f"{stem}.{number}.{suffix}", run.read(name))
            except AnomalyError as error:
                raise RunError(f"the former scores cannot be kept, and nothing was changed: {error}") from error
            names[stem] = f"{stem}.{number}.{suffix}"
    return names
