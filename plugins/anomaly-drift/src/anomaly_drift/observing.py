"""The observer: keeps the facts of a run's normal images in its folder, and warns ``anomaly predict --watch`` of drift."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core import hookimpl, read_untrusted
from anomaly_drift.facts import image_facts
from anomaly_drift.monitor import DriftMonitor
from anomaly_drift.reference import DRIFT, Reference, facts_file

if TYPE_CHECKING:
    from anomaly_core import Batch, Detector, RunFolder
    from anomaly_predict import Verdict

log = logging.getLogger("anomaly_core.drift")  # a command shows what the core's logger and those below it are given


class Observer:
    """Several runs may be open at once, as in a grid's threads."""

    def __init__(self) -> None:
        self._facts: dict[Path, list[dict[str, float]]] = {}
        self._watched: Any = None  # the detector
        self._monitor: DriftMonitor | None = None

    @hookimpl
    def anomaly_normals_scored(self, run: RunFolder, batch: Batch) -> None:
        """Collect the facts of images that set the threshold."""
        pixels = ((image * 255).round_().byte().permute(1, 2, 0).numpy() for image in batch.images)  # (H, W, 3) each
        self._facts.setdefault(run.folder, []).extend(map(image_facts, pixels))

    @hookimpl
    def anomaly_calibrated(self, run: RunFolder) -> None:
        """Write them into the run's folder."""
        if images := self._facts.pop(run.folder, None):
            run.write_json(DRIFT, facts_file(images))

    @hookimpl
    def anomaly_run_end(self, run: RunFolder) -> None:
        """A run that was extended by a few images has the facts of its parent's."""
        parent = run.facts.get("parent")
        if parent and (Path(parent) / DRIFT).is_file() and not (run.folder / DRIFT).exists():
            run.write(DRIFT, read_untrusted(Path(parent) / DRIFT))

    @hookimpl
    def anomaly_run_error(self, run: RunFolder) -> None:
        """Forget them."""
        self._facts.pop(run.folder, None)

    @hookimpl
    def anomaly_predicted(self, verdict: Verdict, image: Any, detector: Detector) -> None:
        """Take in an image of a watched folder, whose order is that of the line; of other images nobody knows the order."""
        source = _watched_source()
        if source is None or image is None:
            return
        if self._watched is not detector:
            self._watched, self._monitor = detector, None  # what the next line raises is reported once
            reference = Reference.near(source, detector.calibration)
            self._monitor = DriftMonitor(reference)
            if not reference.facts:
                log.warning(
                    "drift: there are no facts of the images that set the threshold beside %r, and so the first %d images of "
                    "the folder count as usual.",
                    source,
                    self._monitor.learn,
                )
        if self._monitor is not None:
            alarm = self._monitor.update(
                verdict.p_value, image_facts(image), _time(verdict.path), verdict.path, verdict.is_anomalous
            )
            if alarm is not None:
                log.warning("drift: %s. %s", alarm.text, alarm.advice)


def _watched_source() -> str | None:
    """What ``anomaly predict --watch``, which is running in this thread, was given to score with; None if it is not."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "predict" or not context.params.get("watch"):
        return None
    return str(context.params["source"])


def _time(path: str) -> float | None:
    try:
        return Path(path).stat().st_mtime
    except OSError:  # moved away by who comes next on the line
        return None


OBSERVER = Observer()
