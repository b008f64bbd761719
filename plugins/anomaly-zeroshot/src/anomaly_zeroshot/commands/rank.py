"""``anomaly rank``: unlabelled images, the most unusual first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from anomaly_core import complete_names, complete_presets, set_option

if TYPE_CHECKING:
    from anomaly_core import RunResult

SHOWN = 10


@click.command("rank")
@click.argument("folders", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", metavar="DIR", default="experiments", show_default=True, help="Folder under which the run is written."
)
@click.option(
    "--model",
    metavar="NAME",
    default="musc",
    show_default=True,
    shell_complete=complete_names("model"),
    help="A method that compares unlabelled images with one another.",
)
@click.option(
    "--preset",
    metavar="NAME",
    default="edge",
    show_default=True,
    shell_complete=complete_presets,
    help="A preset of it: edge runs on a CPU, paper wants the paper's weights and a GPU.",
)
@set_option("Any other option of a run")
@click.option("--pictures", metavar="N|all", default="24", show_default=True, help="How many images are saved with their maps.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
def rank(
    folders: tuple[Path, ...],
    output: str,
    model: str,
    preset: str,
    assignments: tuple[str, ...],
    pictures: str,
    device: str | None,
) -> None:
    """Rank the images of the folders IMAGES, normal and defective ones mixed: what few others have comes first.

    Nothing is trained, no normal image is needed, and there is no threshold: look at the first ones. Most images should be
    normal. Writes a run's folder, with ranking.csv and maps; `anomaly predict RUN IMAGES` then scores other images by these.
    """
    from anomaly_core import RunConfig, parse_assignment, progress_bar, require_training

    require_training("`anomaly rank`")
    flags = {
        "data.images": [str(folder) for folder in folders],
        "data.normal_test_share": 1.0,
        "base.output": output,
        "base.pictures": pictures,
        "base.device": device,
    }
    config = RunConfig.create(
        model=model,
        data="folder",
        preset=preset,
        overrides=dict(map(parse_assignment, assignments)),
        flags={name: value for name, value in flags.items() if value is not None},
    )
    _require_transductive(model)
    from anomaly_core import run_experiment

    _report(run_experiment(config, progress=progress_bar).runs[0])


def _require_transductive(name: str) -> None:
    """ConfigError for a method that learns from normal images: it would learn the defects among these."""
    from anomaly_core import ConfigError, registry

    method = registry.models[name].load()
    if not getattr(method, "transductive", False):
        raise ConfigError(
            f"{name!r} learns from normal images, and would learn the defects among these as well. Leave --model out, or name "
            "a method that compares unlabelled images, such as musc."
        )


def _report(result: RunResult) -> None:
    """Write ranking.csv, and print its first rows and where the rest lies."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from anomaly_core import RunFolder, printable
    from anomaly_zeroshot.ranking import RANKING, ranked

    rows = ranked(result.predictions)
    RunFolder(result.folder).write_rows(RANKING, rows)
    console = Console()
    console = console if console.is_terminal else Console(width=200)  # a pipe has no width of its own
    table = Table(Column("rank", justify="right"), Column("score", justify="right"), Column("image", overflow="fold"), box=None)
    for row in rows[:SHOWN]:
        table.add_row(str(row["rank"]), f"{row['score']:.4g}", escape(printable(str(row["path"]))))
    console.print(table)
    lines = [
        f"{len(rows)} images are ranked, the most unusual first. No label is known: there is no threshold and no metric.",
        f"the whole ranking: {result.folder / RANKING}",
    ]
    if any(row["picture"] for row in rows):
        lines.append(f"pictures with their maps: {result.folder / 'maps'}")
    if unscored := len(result.predictions) - len(rows):
        lines.append(f"{unscored} images have no finite score and no rank; predictions.csv says why.")
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
