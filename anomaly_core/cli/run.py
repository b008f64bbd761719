"""``anomaly run``: fit, calibrate and test a detector, and print where the results are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core.cli.completion import (
    category_option,
    complete_names,
    complete_presets,
    metric_option,
    refuse_ignored,
    set_option,
)
from anomaly_core.cli.console import LAUNCHED, progress_bar
from anomaly_core.component import require_training
from anomaly_core.discovery import registry
from anomaly_core.errors import printable, quoted
from anomaly_core.process import importing

if TYPE_CHECKING:
    from anomaly_core.run.result import RunResults


@click.command("run")
@click.option("--model", metavar="NAME", shell_complete=complete_names("model"), help="The method, such as patchcore.")
@click.option("--data", metavar="NAME", shell_complete=complete_names("dataset"), help="The data set, such as visa or folder.")
@category_option
@click.option("--preset", metavar="NAME", shell_complete=complete_presets, help="A preset of the model, such as paper or edge.")
@click.option("--config", "config_file", metavar="FILE", help="A YAML file, such as a run's own config.yaml.")
@set_option("Any option")
@metric_option
@click.option(
    "--trainer",
    metavar="NAME",
    shell_complete=complete_names("trainer"),
    help="Another trainer than the method's own (train.name).",
)
@click.option("--output", metavar="DIR", help="Folder under which runs are written (base.output).")
@click.option("--seed", metavar="N", help="Governs everything that is random (base.seed).")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps (base.device).")
@click.option("--devices", type=click.IntRange(min=1), default=1, metavar="N", help="Processes on this machine, one a device.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="newest",
    metavar="[RUN]",
    help="Go on where a stopped run stopped: the one in the folder RUN, or the newest of the same options.",
)
@click.option("--unified", is_flag=True, default=False, help="One model on all categories instead of one each.")
@click.option(
    "--export", "format_", metavar="FORMAT", help="Also write each run's detector as a file, as `anomaly export --format` does."
)
def run(
    model: str | None,
    data: str | None,
    categories: tuple[str, ...],
    preset: str | None,
    config_file: str | None,
    assignments: tuple[str, ...],
    metrics: tuple[str, ...],
    trainer: str | None,
    output: str | None,
    seed: str | None,
    device: str | None,
    devices: int,
    resume: str | None,
    unified: bool,
    format_: str | None,
) -> None:
    """Fit, calibrate and test a detector.

    Options rise in this order: defaults, preset, --config, --set, the flags of this command.
    `anomaly show NAME` lists all of them.
    """
    require_training("`anomaly run`")
    from anomaly_core.config.resolve import RunConfig, parse_assignment

    flags: dict[str, Any] = {"base.output": output, "base.seed": seed, "base.device": device, "train.name": trainer}
    flags |= {"data.unified": unified or None, "base.metrics": list(metrics) or None}
    flags = {key: value for key, value in flags.items() if value is not None}
    if categories:
        flags["data.category"] = None if "all" in categories else list(categories)
    going_on: bool | str = resume is not None
    if resume is not None and resume != "newest":
        if model or data or preset or config_file or assignments or flags:
            raise click.UsageError(
                "--resume RUN goes on with the run's own options: leave the others out, or give --resume alone. A new run with "
                f"others: `anomaly run --config {quoted(Path(resume) / 'config.yaml')} --set ...`."
            )
        going_on, config_file = resume, str(Path(resume) / "config.yaml")
    overrides = dict(map(parse_assignment, assignments))
    config = RunConfig.create(model=model, data=data, preset=preset, config=config_file, overrides=overrides, flags=flags)
    if format_:  # what is wrong with it is said before fitting
        export = registry.commands["export"].load()
        try:
            export.make_context("export", [".", "--format", format_])
        except click.UsageError as error:
            raise click.BadParameter(error.message, param_hint="--export") from error
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    refuse_ignored(devices=launched and LAUNCHED not in os.environ and "torchrun says how many processes there are.")
    if devices > 1 and not launched:
        raise SystemExit(registry.trainers[config.train.name].load("launcher")(devices, click.get_current_context().obj))
    with importing():
        from anomaly_core.run.runner import run_experiment

    results = run_experiment(config, progress=progress_bar, resume=going_on)
    if launched:
        from anomaly_core.run.devices import process_state

        process_state(config.base.device).destroy_process_group()  # left open, its threads can abort the process as it exits
    if results.runs:  # with several processes, only the main one has results
        print_summary(results, config.base.metrics)
    for result in results.runs if format_ else ():
        export.main([str(result.folder), "--format", format_], standalone_mode=False)
    if any(result.unscored for result in results.runs):
        raise SystemExit(1)


def print_summary(results: RunResults, named: Sequence[str] | None = None) -> None:
    """Print what was found; a table, one row per category and their mean, with the named metrics; and where the results are."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from anomaly_core.run.result import outcome

    measures = {name: measure for run in results.runs for name, measure in run.measures.items() if measure.value is not None}
    shown = [name for name, measure in measures.items() if (name in named if named else measure.prominence != "detail")]
    titles = [*(measures[name].label.replace("_", " ") for name in shown), "threshold", "images/s"]
    columns = [Column(title, justify="right", no_wrap=True, overflow="fold") for title in titles]
    table = Table(Column("category", overflow="fold"), *columns, box=None, padding=(0, 1), header_style="bold")

    def cells(values: Mapping[str, float | None]) -> list[str]:
        return ["-" if (value := values.get(name)) is None else f"{value:.4f}" for name in shown]

    for run in results.runs:
        for category in dict.fromkeys(category for measure in run.measures.values() for category in measure.categories):
            table.add_row(escape(printable(category)), *cells({n: m.categories.get(category) for n, m in run.measures.items()}))
        threshold = "-" if run.calibration.threshold is None else f"{run.calibration.threshold:.4g}"
        table.add_row(escape(printable(run.category)), *cells(run.metrics), threshold, f"{run.images_per_second:.1f}")
    if len(results.runs) > 1:
        table.add_section()
        table.add_row("mean", *cells(results.metrics))
    console = Console()
    console = console if console.is_terminal else Console(width=160)  # a pipe has no width of its own

    def say(category: str, text: str) -> None:
        console.print(printable(f"{category}: {text}"), markup=False, highlight=False, soft_wrap=True)

    for run in results.runs:
        tested = list(dict.fromkeys(row.category for row in run.predictions))
        for name in tested if len(tested) > 1 else []:
            say(name, run.outcome(name))
        say(run.category, run.outcome())
    if len(results.runs) > 1 and all(run.calibration.threshold is not None for run in results.runs):
        say("all", outcome(results.predictions, "each category at its own threshold"))
    console.print(table)
    missing: dict[str, list[str]] = {}  # what is undefined and why -> categories
    for run in results.runs:
        names = {why: [name for name, reason in run.undefined.items() if reason == why] for why in run.undefined.values()}
        reasons = [f"{', '.join(n)} {'is' if len(n) == 1 else 'are'} undefined: {why}" for why, n in names.items()]
        missing.setdefault("; ".join(reasons), []).append(run.category)
    for text, categories in missing.items():
        if text:
            say(", ".join(categories), text)
    for run in results.runs:
        texts = []
        if str(run.resolution) and any(measures[name].level == "pixel" for name in shown):
            texts.append(f"pixels judged at {run.resolution}")
        texts.append(f"threshold from {run.calibration.source}; {run.calibration.promise()}".rstrip("; "))
        texts.append(f"results in {run.folder}")
        for text in texts:
            say(run.category, text)
