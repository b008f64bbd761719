"""``anomaly run``: fit, calibrate and judge a detector, and say where the results are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core.cli.completion import names, presets
from anomaly_core.cli.options import category_option, metric_option, set_option

if TYPE_CHECKING:
    from anomaly_core.results import ExperimentResult


# Beside these the resolution must stand.
PIXELS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_005", "aupimo")


@click.command("run")
@click.option("--model", metavar="NAME", shell_complete=names("model"), help="The method, such as patchcore.")
@click.option("--data", metavar="NAME", shell_complete=names("dataset"), help="The data set, such as visa or folder.")
@category_option
@click.option("--preset", metavar="NAME", shell_complete=presets, help="A preset of the model, such as paper or edge.")
@click.option("--config", "config_file", metavar="FILE", help="A YAML file, such as a run's own config.yaml.")
@set_option("Any option")
@metric_option
@click.option(
    "--trainer", metavar="NAME", shell_complete=names("trainer"), help="Another trainer than the method's own (train.name)."
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
) -> None:
    """Fit, calibrate and judge a detector.

    Options rise in this order: defaults, preset, --config, --set, the flags of this command.
    `anomaly show NAME` lists all of them.
    """
    from anomaly_core.config import RunConfig, parse_assignment

    flags: dict[str, Any] = {"base.output": output, "base.seed": seed, "base.device": device, "train.name": trainer}
    flags = {key: value for key, value in flags.items() if value is not None}
    if categories:
        flags["data.category"] = None if "all" in categories else list(categories)
    if metrics:
        flags["base.metrics"] = list(metrics)
    going_on: bool | str = resume is not None
    if resume is not None and resume != "newest":
        if model or data or preset or config_file or assignments or flags or unified:
            raise click.UsageError("--resume RUN goes on with the run's own options; give no others, or --resume alone.")
        going_on, config_file = resume, str(Path(resume) / "config.yaml")
    if unified:
        flags["data.unified"] = True
    config = RunConfig.create(
        model=model,
        data=data,
        preset=preset,
        config=config_file,
        overrides=dict(map(parse_assignment, assignments)),
        flags=flags,
    )

    from anomaly_core.progress import progress_bar
    from anomaly_core.runner import run_experiment

    result = run_experiment(config, progress=progress_bar, resume=going_on, devices=devices)
    if result.runs:  # of several processes, the main one alone has them
        print_summary(result, config.base.metrics)


def print_summary(result: ExperimentResult, named: Sequence[str] | None = None) -> None:
    """The table that ends a run: a row a category and their mean, and where the results are; with the named metrics."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from anomaly_core.results import labelled

    shown = named or ("image_auroc", "image_ap", "image_f1_max", "image_f1", "pixel_auroc", "pixel_ap", "aupro")
    names = [name for name in shown if any(run.metrics.get(name) is not None for run in result.runs)]
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for column in ("category", *map(labelled, names), "threshold", "images/s"):
        left = column == "category"
        table.add_column(column.replace("_", " "), justify="left" if left else "right", no_wrap=not left, overflow="fold")

    def cells(values: dict[str, float | None]) -> list[str]:
        return ["-" if values.get(name) is None else f"{values[name]:.4f}" for name in names]

    for run in result.runs:
        for category, values in run.per_category.items():
            table.add_row(escape(category), *cells(values), "", "")
        threshold = "-" if run.calibration.threshold is None else f"{run.calibration.threshold:.4g}"
        table.add_row(escape(run.category), *cells(run.metrics), threshold, f"{run.images_per_second:.1f}")
    if len(result.runs) > 1:
        table.add_section()
        table.add_row("mean", *cells(result.metrics), "", "")
    console = Console()
    console = console if console.is_terminal else Console(width=120)  # a pipe has no width of its own
    console.print(table)
    for run in result.runs:
        for name, reason in run.undefined.items():
            console.print(f"{run.category}: {name} is undefined: {reason}", markup=False, highlight=False, soft_wrap=True)
        for text in (
            f"pixels judged at {run.resolution}" if any(n in names for n in PIXELS) and str(run.resolution) else "",
            f"threshold from {run.calibration.source}; {run.calibration.promise()}".rstrip("; "),
            f"results in {run.folder}",
        ):
            if text:
                console.print(f"{run.category}: {text}", markup=False, highlight=False, soft_wrap=True)
