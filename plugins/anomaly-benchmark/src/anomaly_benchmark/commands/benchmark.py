"""``anomaly benchmark``: a grid of models, categories and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_benchmark.backends import BACKENDS
from anomaly_core import all_alone, category_option, complete_names, complete_presets, metric_option, printable, set_option

if TYPE_CHECKING:
    from anomaly_benchmark.summary import Summary


@click.command("benchmark")
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="NAME",
    callback=all_alone,
    shell_complete=complete_names("model", "all"),
    help="A method; repeatable; `all` for all.",
)
@click.option(
    "--data",
    "datasets",
    multiple=True,
    required=True,
    metavar="NAME",
    shell_complete=complete_names("dataset"),
    help="A data set; repeatable.",
)
@category_option
@click.option(
    "--seed", "seeds", multiple=True, type=click.IntRange(min=0), metavar="N", help="A seed; repeatable; 0 by default."
)
@click.option(
    "--preset", metavar="NAME", shell_complete=complete_presets, help="A preset of every model, such as paper or edge."
)
@set_option("An option of every run")
@metric_option
@click.option("--output", metavar="DIR", help="Folder under which runs and tables are written (base.output).")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at once.")
@click.option("--backend", type=click.Choice(list(BACKENDS)), default="loky", show_default=True, help="What runs them.")
@click.option("--address", metavar="ADDRESS", help="A Dask scheduler or Ray cluster; none starts a local one.")
@click.option("--resume", is_flag=True, help="Skip what is complete, go on with what was stopped.")
def benchmark(
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    categories: tuple[str, ...],
    seeds: tuple[int, ...],
    preset: str | None,
    assignments: tuple[str, ...],
    metrics: tuple[str, ...],
    output: str | None,
    jobs: int,
    backend: str,
    address: str | None,
    resume: bool,
) -> None:
    """Run models x data sets x categories x seeds, and say which differences are real.

    Each cell is an ordinary run. One that fails is reported, and the rest goes on; killed at any moment, the same command with
    --resume loses at most the cells in flight. Options of `model` and `train` go to the models that know them, and one that
    acts in some of the cells alone to those.
    """
    from anomaly_benchmark.cells import grid, output_folder
    from anomaly_benchmark.grids import run_grid
    from anomaly_benchmark.hooks import BenchmarkHooks
    from anomaly_benchmark.summary import Summary
    from anomaly_core import Hooks, exclusive, parse_assignment, progress_bar, registry

    overrides: dict[str, Any] = dict(map(parse_assignment, assignments))
    if output is not None:
        overrides["base.output"] = output
    if metrics:
        overrides["base.metrics"] = list(metrics)
    cells = grid(
        list(registry.models) if "all" in models else list(dict.fromkeys(models)),
        list(dict.fromkeys(datasets)),
        categories=None if not categories or "all" in categories else list(categories),
        seeds=list(dict.fromkeys(seeds)) or [0],
        preset=preset,
        overrides=overrides,
    )
    hooks = Hooks(registry, more=BenchmarkHooks)
    folder = output_folder(cells)
    make_folder(folder)
    other = f"another benchmark is writing to {str(folder.parent)!r}. Wait until it is done, or choose another --output."
    with exclusive(folder, other):
        done = run_grid(cells, jobs=jobs, backend=backend, address=address, resume=resume, progress=progress_bar)
        summary = Summary(done)
        write_tables(summary, folder)
    print_grid(summary)
    hooks.call("anomaly_benchmark_end", folder=folder, cells=done)
    click.echo(f"tables in {folder}")
    if summary.failed:
        raise SystemExit(1)


def make_folder(folder: Path) -> None:
    """Make the folder of the tables before anything runs; RunError if that cannot be."""
    from anomaly_core import RunError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {str(folder)!r}: {error}. Choose another with --output.") from error


def write_tables(summary: Summary, folder: Path) -> None:
    """Write results.csv, results.md and results.tex."""
    from anomaly_benchmark.tables import to_csv, to_latex, to_markdown
    from anomaly_core import write_whole

    for name, write in (("results.csv", to_csv), ("results.md", to_markdown), ("results.tex", to_latex)):
        write_whole(folder / name, write(summary).encode())


def print_grid(summary: Summary) -> None:
    """The tables on the screen."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from anomaly_benchmark.best import sentence
    from anomaly_benchmark.tables import costs, notes, rows, verdict

    console = Console()
    console = console if console.is_terminal else Console(width=200)

    def show(title: str, header: list[str], body: list[list[str]]) -> None:
        table = Table(box=None, padding=(0, 1), header_style="bold", title=title, title_justify="left")
        for number, column in enumerate(header):
            table.add_column(escape(column), justify="right" if number else "left", overflow="fold")
        for number, row in enumerate(body):
            if row[0] == "mean" and number == len(body) - 1:
                table.add_section()
            table.add_row(*(escape(printable(cell)) for cell in row))
        console.print(table)

    for metric in summary.metrics:
        show(summary.measures[metric].label, *rows(summary, metric))
        texts = [text for text in (sentence(summary, metric), verdict(summary, metric)) if text]
        console.print(printable("\n".join([*texts, ""]), "\n"), markup=False, highlight=False, soft_wrap=True)
    for note in notes(summary):
        console.print(printable(note) + "\n", markup=False, highlight=False, soft_wrap=True)
    show("cost, mean over cells", *costs(summary))
    for cell in summary.failed:
        console.print(printable(f"failed: {cell.name}: {cell.error}"), markup=False, highlight=False, soft_wrap=True)
