"""``anomaly evaluate``: a finished run tested again, on the same or other data."""

from __future__ import annotations

from typing import Any

import click

from anomaly_core import all_alone, complete_names, metric_option, require_training, set_option


@click.command("evaluate")
@click.argument("run_folder", metavar="RUN")
@click.option(
    "--data", metavar="NAME", shell_complete=complete_names("dataset"), help="Another data set; none means the run's own."
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME",
    callback=all_alone,
    help="A category; repeatable; `all` for all of them.",
)
@set_option("Options of data and base")
@metric_option
@click.option("--output", metavar="DIR", help="Folder below which the results are written; none means RUN/evaluations.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--engine",
    metavar="NAME",
    shell_complete=complete_names("engine"),
    help="What computes frozen networks; None means the run's own (model.engine).",
)
@click.option("--no-verify", is_flag=True, help="Use the run's files as they are, without comparing them with what it wrote.")
def evaluate(
    run_folder: str,
    data: str | None,
    categories: tuple[str, ...],
    assignments: tuple[str, ...],
    metrics: tuple[str, ...],
    output: str | None,
    device: str,
    engine: str | None,
    no_verify: bool,
) -> None:
    """Test the finished run in the folder RUN again, without fitting, at its own threshold.

    The results are written below RUN/evaluations/, or DIR. --set base.false_alarm_rate=R judges at the threshold for that rate.
    """
    require_training("`anomaly evaluate`")
    from anomaly_core import parse_assignment

    overrides: dict[str, Any] = dict(map(parse_assignment, assignments))
    if categories:
        overrides["data.category"] = None if "all" in categories else list(categories)
    if metrics:
        overrides["base.metrics"] = list(metrics)

    from anomaly_core import RunResults, print_summary, progress_bar
    from anomaly_predict import evaluate as evaluate_run

    options: dict[str, Any] = {"output": output, "device": device, "engine": engine, "verify": not no_verify}
    result = evaluate_run(run_folder, data=data, overrides=overrides, progress=progress_bar, **options)
    print_summary(RunResults([result]), metrics or None)
    if result.unscored:
        raise SystemExit(1)
