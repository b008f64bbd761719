"""A run's threshold in words: what it found, what it rests on, those before it, and the command that changes it."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from anomaly_core import Calibration, quoted
from anomaly_report.finished import FinishedRun
from anomaly_report.runs import brief
from anomaly_report.verdicts import FALSE_ALARM, FLAGGED, HIT, verdict

FORMER = "former_thresholds"  # in the manifest, by `anomaly threshold`
SHOWN = 50  # of them

# How each normal image got a score from a detector that did not see it: its kind in a legend, and after "N normal images".
_SCORED = {
    "holdout": ("held-out normal", "held out of fitting"),
    "folds": ("cross-fitted normal", "each scored by a detector fitted on the others"),
    "leave_one_out": ("cross-fitted normal", "each scored without itself"),
}
_CHOSEN = {"rate": "a false-alarm rate", "tail": "a fitted tail", "costs": "costs", "value": "its value"}


def kind_of_normals(calibration: Calibration) -> str:
    """The normal images that set the threshold, as a legend names them."""
    return _SCORED[calibration.scored_by][0]


def promise(calibration: Calibration) -> str:
    """What the false-alarm rate is worth; empty without a threshold or normal images that show it."""
    interval = calibration.interval or calibration.false_alarm_interval()
    if calibration.threshold is None or interval is None:
        return ""
    rate = f"{calibration.false_alarm_rate * 100:.3g} %"
    asked = {
        "rate": f"{rate} was asked for",
        "tail": f"{rate} was asked for, which is extrapolated by a curve through the highest scores",
    }.get(calibration.chosen_by, f"about {rate} is expected")
    low, high = (f"{100 * share:.2g}" for share in interval)
    count = f"{calibration.count:,} normal image{'s' * (calibration.count > 1)}, {_SCORED[calibration.scored_by][1]}"
    return f"{asked}; by {count}, the true rate lies between {low} and {high} % (95 % confidence)"


def headline(run: FinishedRun) -> str:
    """What the run found at its threshold, in a sentence; the page's script says it of others."""
    if run.threshold is None:
        return "The run has no threshold: no image was judged."
    verdicts = [verdict(image, run.threshold) for image in run.images]
    anomalous, normal, unknown = (sum(image.label == label for image in run.images) for label in (1, 0, None))
    parts = []
    if anomalous:
        parts.append(f"found {verdicts.count(HIT):,} of {anomalous:,} {'defect' if anomalous == 1 else 'defects'}")
    if normal:
        alarms = verdicts.count(FALSE_ALARM)
        images = "good image" if normal == 1 else "good images"
        parts.append(f"{alarms:,} {'false alarm' if alarms == 1 else 'false alarms'} in {normal:,} {images}")
    if unknown:
        images = f"{'image' if unknown == 1 else 'images'}{' without a label' if parts else ''}"
        parts.append(f"called {verdicts.count(FLAGGED):,} of {unknown:,} {images} anomalous")
    sentence = ", ".join(parts) or "no image was tested"
    return f"{sentence[0].upper()}{sentence[1:]}."


def shell_path(run: FinishedRun) -> str:
    """The folder of the run that has the threshold, quoted for a shell of this machine."""
    return quoted(run.manifest.get("evaluates") or run.folder.absolute())


def former(run: FinishedRun) -> list[dict[str, Any]]:
    """The thresholds that the run had before, the last first; what a stranger wrote in their place is left out."""
    entries = run.manifest.get(FORMER)
    rows = []
    for entry in reversed(entries[-SHOWN:] if isinstance(entries, list) else []):
        if isinstance(entry, dict) and _is_number(entry.get("threshold")):
            rate, chosen = entry.get("false_alarm_rate"), entry.get("chosen_by")
            row = {
                "until": entry.get("time") if _is_number(entry.get("time")) else None,
                "threshold": float(entry["threshold"]),
                "rate": f"{100 * rate:.3g} %" if _is_number(rate) else "",
                "chosen_by": _CHOSEN.get(chosen, "") if isinstance(chosen, str) else "",
                "source": brief(entry.get("source", "")),
            }
            rows.append(row)
    return rows


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
