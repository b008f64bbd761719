"""``anomaly threshold``: what each threshold costs, and another one for a run or an exported file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from anomaly_core import Calibration, RunResult
    from anomaly_teach.threshold_choice import Subject
    from anomaly_teach.threshold_run import Change

FOLDER = click.Path(path_type=Path)
SCORED_BY = {
    "holdout": "held out of fitting",
    "folds": "each scored by a detector that did not see it",
    "leave_one_out": "each scored by the detector without it",
}


@click.command("threshold")
@click.argument("source", metavar="RUN|FILE", type=FOLDER)
@click.option("--false-alarm-rate", "rate", type=float, metavar="R", help="Share of good images that may exceed it: 0.01.")
@click.option("--value", type=float, metavar="X", help="The threshold itself, a raw score.")
@click.option("--from", "normal", type=FOLDER, metavar="DIR", help="Good images that the detector has not seen, to set it by.")
@click.option("--tail", is_flag=True, help="Rates beyond the number of images, extrapolated by a fitted curve.")
@click.option("--cost-miss", type=float, metavar="C", help="Cost of a defect that is missed: choose by least cost.")
@click.option("--cost-alarm", type=float, metavar="C", help="Cost of a false alarm; 1 by default.")
@click.option(
    "--defect-rate", type=float, metavar="R", help="Share of defective images on the line, for the costs; 0.01 by default."
)
@click.option("--abnormal", type=FOLDER, metavar="DIR", help="Anomalous images, for the costs.")
@click.option(
    "--share", type=float, metavar="S", help="Share of the run's own anomalous test images, for the costs; 0.5 by default."
)
@click.option("--device", metavar="DEVICE", help="With --from and --abnormal, for a run: auto, cpu, cuda, cuda:N or mps.")
@click.option("--no-verify", is_flag=True, help="Use RUN or FILE even if it is not as it was written.")
def threshold(
    source: Path,
    rate: float | None,
    value: float | None,
    normal: Path | None,
    tail: bool,
    cost_miss: float | None,
    cost_alarm: float | None,
    defect_rate: float | None,
    abnormal: Path | None,
    share: float | None,
    device: str | None,
    no_verify: bool,
) -> None:
    """Show what each threshold costs, for the finished run in the folder RUN or a FILE that `anomaly export` wrote.

    With one of --false-alarm-rate, --value, --from and --cost-miss, change it: nothing is fitted again. A run's verdicts,
    metrics and report follow, and its former threshold stays in manifest.json.

    The table's columns of the test set inform; no threshold is chosen by them. --cost-miss needs anomalous images: those of a
    folder, or a share of the run's own test images, which then test no more.
    """
    costs = {"--cost-alarm": cost_alarm, "--defect-rate": defect_rate, "--abnormal": abnormal, "--share": share}
    _require_one_choice(rate, value, normal, cost_miss, tail, costs)
    if device is not None and normal is None and abnormal is None:
        raise click.UsageError("--device is for scoring images, with --from or --abnormal; leave it out.")
    _require_ranges({"--false-alarm-rate": rate, "--defect-rate": defect_rate, "--share": share}, cost_miss, cost_alarm)

    from anomaly_teach.threshold_choice import Subject

    subject = Subject(source, device or "auto", verify=not no_verify)
    if all(one is None for one in (rate, value, normal, cost_miss)):
        _show(subject, tail)
        return
    before = subject.calibration
    with subject.changing():
        change = _change(subject, rate, value, normal, tail, cost_miss, costs)
        _warn(change.calibration)
        if change.calibration == before and not change.used:
            click.echo(f"{source}: the threshold is {_number(before)} already; nothing was changed")
            return
        result = subject.write(change)
    _tell(subject, before, change, result)


def _require_one_choice(
    rate: float | None, value: float | None, normal: Path | None, miss: float | None, tail: bool, costs: dict[str, Any]
) -> None:
    """UsageError for two choices, and for an option that the choice would ignore."""
    given = {"--value": value, "--from": normal, "--cost-miss": miss, "--false-alarm-rate": rate}
    choices = [name for name, option in given.items() if option is not None]
    if len(choices) > 1 and choices != ["--from", "--false-alarm-rate"]:
        raise click.UsageError(f"{' and '.join(choices)} are two ways to choose a threshold; give one.")
    if tail and (value is not None or miss is not None):
        raise click.UsageError("--tail is for false-alarm rates, and has nothing to do with --value or --cost-miss.")
    if miss is None and (ignored := [name for name, option in costs.items() if option is not None]):
        raise click.UsageError(f"{ignored[0]} is for a choice by costs: give --cost-miss too, or leave it out.")
    if costs["--abnormal"] is not None and costs["--share"] is not None:
        raise click.UsageError("--abnormal and --share are two sources of anomalous images; give one.")


def _require_ranges(shares: dict[str, float | None], miss: float | None, alarm: float | None) -> None:
    for name, share in shares.items():
        if share is not None and not 0 < share < 1:  # and NaN
            percent = f"; for {share:g} % give {share / 100:g}" if 1 <= share < 100 else ""
            raise click.UsageError(f"{name} {share:g} is no share: it must lie between 0 and 1{percent}.")
    for name, cost in {"--cost-miss": miss, "--cost-alarm": alarm}.items():
        if cost is not None and not (cost > 0 and math.isfinite(cost)):
            raise click.UsageError(f"{name} {cost:g} is no cost: give a number above 0.")


def _show(subject: Subject, tail: bool) -> None:
    from anomaly_core import quoted
    from anomaly_teach.threshold_choice import require_scores
    from anomaly_teach.threshold_table import RATES, rows_of, written
    from anomaly_teach.threshold_tail import LEAST_IMAGES, Tail

    require_scores(subject)
    calibration, tested = subject.calibration, subject.tested
    click.echo(f"{subject.source}: {len(calibration.scores)} normal images, {SCORED_BY[calibration.scored_by]}")
    for line in written(rows_of(calibration, Tail(calibration.scores) if tail else None), tested):
        click.echo(line)
    click.echo(">  the present threshold. Ranges hold with 95 % probability, for good images like those that set it.")
    if calibration.scored_by != "holdout":
        click.echo("   The scores are cross-fitted: ranges are approximate, and about twice the rate is what is proved (CV+).")
    if any(row.label is not None for row in tested):
        click.echo("*  on the test set: for information. A threshold that is chosen by it will do worse in use.")
    if not tail and LEAST_IMAGES <= len(calibration.scores) < calibration.images_for(RATES[0]):
        click.echo("-  more images are needed to show such a rate; --tail extrapolates to it.")
    if tail:
        click.echo("tail: an extrapolation by a curve through the upper scores, which no image has confirmed.")
    click.echo(
        f"Change it: anomaly threshold {quoted(subject.source)} --false-alarm-rate R | --value X | --from DIR | --cost-miss C"
    )


def _change(
    subject: Subject,
    rate: float | None,
    value: float | None,
    normal: Path | None,
    tail: bool,
    miss: float | None,
    costs: dict[str, Any],
) -> Change:
    from anomaly_teach import threshold_choice as choice
    from anomaly_teach.threshold_costs import Costs
    from anomaly_teach.threshold_run import Change

    if normal is not None:
        change = choice.by_images(subject, normal, rate, tail=tail)
        if words := choice.differences(change.calibration, subject.calibration, change.calibration.scores):
            click.echo(words)
        return change
    if value is not None:
        return Change(choice.by_value(subject.calibration, value))
    choice.require_scores(subject)
    if miss is not None:
        weighed = Costs(miss, costs["--cost-alarm"] or 1.0, costs["--defect-rate"] or 0.01)
        return choice.by_costs(subject, weighed, costs["--abnormal"], costs["--share"])
    return Change(choice.by_rate(subject.calibration, rate or 0.0, tail=tail))


def _warn(calibration: Calibration) -> None:
    if calibration.warning:
        warnings.warn(calibration.warning, stacklevel=2)


def _tell(subject: Subject, before: Calibration, change: Change, result: RunResult | None) -> None:
    """Say what was changed, and what the change does not reach."""
    from anomaly_teach.threshold_run import USED_LIST, evaluation_of
    from anomaly_teach.threshold_table import Counts

    after = change.calibration
    click.echo(f"{subject.source}: threshold {_number(before)} -> {_number(after)}, from {after.source}")
    if promise := after.promise():
        click.echo(promise)
    if result is None or subject.run is None:
        return
    if change.used:
        click.echo(f"{len(change.used)} images are not in the test set any more, as they chose the threshold: see {USED_LIST}")
    if any(row.label is not None for row in result.predictions):
        click.echo(f"on the test set: {Counts.of(result.predictions, after.threshold or 0.0)}")
    if after.map_threshold != before.map_threshold or change.used:
        click.echo(
            "regions and pictures need the maps again, which are not kept: "
            f"`{evaluation_of(subject.run)}` makes them at the new threshold"
        )
    if (report := subject.run.folder / "report.html").is_file():
        click.echo(f"report: {report}")


def _number(calibration: Calibration) -> str:
    return "none" if calibration.threshold is None else f"{calibration.threshold:.6g}"
