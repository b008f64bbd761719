"""``anomaly drift``: whether a stream of images still is what a detector's threshold was set for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_drift.alarm import DriftAlarm
from anomaly_drift.plotting import Point, plot, require_plots

if TYPE_CHECKING:
    from anomaly_core import Detector
    from anomaly_drift.monitor import DriftMonitor
    from anomaly_drift.scoring import Scored

RECALIBRATED = 1000  # the last images that a threshold is proposed from


@click.command("drift")
@click.argument("source", metavar="RUN|FILE")
@click.argument("images", nargs=-1, required=True)
@click.option("--by-time", is_flag=True, help="Take the images by the times of their files, not in the order given.")
@click.option(
    "--per-10000",
    "per_10000",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="N",
    help="False alarms of drift that are allowed in 10,000 images.",
)
@click.option(
    "--learn",
    type=click.IntRange(min=20),
    metavar="N",
    help="Take the first N images for what is usual, in place of what RUN keeps; 100 where it keeps nothing.",
)
@click.option(
    "--defects",
    type=click.FloatRange(min=0, max=0.5, max_open=True),
    default=0.05,
    show_default=True,
    metavar="S",
    help="The greatest share of defects among the images that is no drift.",
)
@click.option("--recalibrate", is_flag=True, help="Propose a threshold from the images since the last change.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line: each alarm, then the proposal, then a summary.")
@click.option(
    "--plot",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw p-values, facts and evidence into FILE: .png, .svg or .pdf. Needs matplotlib.",
)
@click.option("--device", default="auto", show_default=True, help="Of a run: auto, cpu, cuda, cuda:N or mps.")
@click.option("--no-verify", is_flag=True, help="Use RUN or FILE as it is, without comparing it with what was written.")
def drift(
    source: str,
    images: tuple[str, ...],
    by_time: bool,
    per_10000: float,
    learn: int | None,
    defects: float,
    recalibrate: bool,
    jsonl: bool,
    picture: Path | None,
    device: str,
    no_verify: bool,
) -> None:
    """Say whether IMAGES, in the order in which the line made them, still are what the threshold of RUN or FILE was set for.

    IMAGES are files, folders, quoted globs, or - for a list on standard input, as for `anomaly predict`; those of a folder come
    sorted by their paths. Prints an alarm for each change, with the image since which it is there, and a summary. Some defects
    among the images raise none; a rise of their share is an alarm of its own kind. Nothing is changed: --recalibrate proposes.

    The exit status is 1 if there was an alarm or an image could not be read.
    """
    from anomaly_core import DataError
    from anomaly_drift.monitor import LEARN, DriftMonitor
    from anomaly_drift.reference import Reference
    from anomaly_drift.scoring import scored
    from anomaly_predict import image_paths, open_detector

    if picture is not None:
        require_plots(picture)
    paths = image_paths(images)
    detector = open_detector(source, device, verify=not no_verify, quick=True)
    if not detector.calibration.scores:
        raise DataError(
            f"the detector in {source!r} has no scores of normal images, and so nothing to compare with. Set its threshold by "
            f"good images: `anomaly threshold {source} --from DIR`."
        )
    reference = Reference(detector.calibration) if learn else Reference.near(source, detector.calibration)
    monitor = DriftMonitor(reference, per_10000, defects=defects, learn=learn or LEARN)
    report = _Report(jsonl, monitor, not reference.facts, picture)
    for one in scored(detector, sorted(paths, key=_time) if by_time else paths):
        report.add(one, _time(Path(one.verdict.path)) if by_time else None)
    if not (monitor.count or report.failed):
        raise DataError("the list has no image, so that nothing can be said of drift. Give the images of the line, one a line.")
    if recalibrate:
        report.propose(source, detector, defects)
    report.end()
    if report.failed or monitor.alarms:
        raise SystemExit(1)


class _Report:
    """Alarms and the summary on standard output, faults on standard error."""

    def __init__(self, jsonl: bool, monitor: DriftMonitor, learns: bool, picture: Path | None) -> None:
        self.failed = self.anomalous = 0
        self._jsonl, self._monitor, self._learns = jsonl, monitor, learns
        self._picture, self._points, self._alarms = picture, list[Point](), list[DriftAlarm]()
        self._recent: list[Scored] = []  # since the last change, in bounded number

    def add(self, one: Scored, at: float | None) -> None:
        """Take in an image, and print the alarm that it raises."""
        verdict = one.verdict
        if verdict.error:
            self.failed += 1
            _say(f"warning: {verdict.error}", err=True)
            return
        self.anomalous += bool(verdict.is_anomalous)
        self._recent = [*self._recent[-(RECALIBRATED - 1) :], one]
        alarm = self._monitor.update(verdict.p_value, one.facts, at, verdict.path, verdict.is_anomalous)
        if self._picture is not None:
            self._points.append(Point(verdict.p_value, one.facts, self._monitor.nearness))
        if alarm is None:
            return
        self._alarms.append(alarm)
        if alarm.kind != "alarms":
            self._recent = self._recent[-(alarm.number - alarm.since_number + 1) :]
        self._print(alarm)

    def _print(self, alarm: DriftAlarm) -> None:
        if self._jsonl:
            _say(json.dumps({"event": "alarm", **alarm.to_dict()}, allow_nan=False))
            return
        _say(f"{alarm.text}.")
        _say(f"  first image: {alarm.since_id}{_when(alarm.since)}")
        _say(f"  certain with image {alarm.number:,}: {alarm.id}{_when(alarm.time)}")
        _say(f"  {alarm.advice}")

    def propose(self, source: str, detector: Detector, defects: float) -> None:
        """Print the threshold that the images since the last change propose."""
        from anomaly_core import quoted
        from anomaly_drift.recalibration import recalibrated

        scores = [one.verdict.score for one in self._recent if one.verdict.score is not None]
        peaks = [one.peak for one in self._recent if one.peak is not None]
        maxima = peaks if len(peaks) == len(scores) else None
        proposal = recalibrated(detector.calibration, scores, maxima, defects=defects)
        value = None if proposal.calibration is None else proposal.calibration.threshold
        out = [self._recent[place].verdict.path for place in proposal.left_out]
        if self._jsonl:
            facts = {"threshold": value, "images": len(scores), "left_out": out, "missing": proposal.missing}
            _say(json.dumps({"event": "proposal", **facts, "text": proposal.words, "warning": proposal.warning}))
            return
        _say(f"{proposal.words}.")
        if proposal.warning:
            _say(f"  {proposal.warning}.")
        for path in out:
            _say(f"  left out: {path}")
        if value is not None:
            _say(f"  To accept it: `anomaly threshold {quoted(source)} --value {value!r}`")

    def end(self) -> None:
        """Draw the picture, and print the summary."""
        if self._picture is not None:
            plot(self._picture, self._points, self._alarms, self._monitor.usual)
        monitor = self._monitor
        facts: dict[str, Any] = {"images": monitor.count, "anomalous": self.anomalous, "alarms": monitor.alarms}
        facts |= {"unreadable": self.failed, "per_10000": monitor.per_10000}
        if self._jsonl:
            _say(json.dumps({"event": "summary", **facts, "learnt": min(monitor.learn, monitor.count) if self._learns else 0}))
            return
        alarms = f"{monitor.alarms} alarm{'s' * (monitor.alarms != 1)}" if monitor.alarms else "no alarm of drift"
        bad = f", {self.failed} could not be read" if self.failed else ""
        _say(
            f"{monitor.count:,} images, {self.anomalous} called anomalous{bad}: {alarms}, at no more than "
            f"{monitor.per_10000:g} false in 10,000 images"
        )
        if self._learns:
            few = f", and there were only {monitor.count}: they told nothing yet" if monitor.is_learning else ""
            _say(f"  light, sharpness and place were compared with the first {monitor.learn} of these images{few}")


def _when(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime(" (%Y-%m-%d %H:%M)", time.localtime(seconds))


def _say(text: str, *, err: bool = False) -> None:
    from anomaly_core import printable

    click.echo(printable(text), err=err)


def _time(path: Path) -> float:
    """When the file was written; 0 for one that is not there, which is reported when it is read."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
