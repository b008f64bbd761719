"""``anomaly suspects``: the odd images among a run's normal ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from anomaly_core import RunFolder
    from anomaly_teach.suspects import Ranked


@click.command("suspects")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="The N highest scores, whether they stand out or not.")
@click.option("--all", "everything", is_flag=True, help="All normal images that have a score.")
@click.option(
    "--write-exclude",
    "listed",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the paths of those that are shown into FILE, one a line, for data.exclude; what FILE holds already stays.",
)
@click.option("--no-verify", is_flag=True, help="Take the run's files as they are, without comparing them with what it wrote.")
def suspects(run_folder: Path, top: int | None, everything: bool, listed: Path | None, no_verify: bool) -> None:
    """List the normal images of the finished run RUN whose scores stand out: perhaps they are defective, or show another thing.

    A defect among the images that a detector learns from teaches it that such defects are normal, and raises its threshold.
    """
    from anomaly_core import RunFolder, quoted
    from anomaly_teach.suspects import add_to_list, ranked

    if everything and (top or listed):
        raise click.UsageError(f"--all goes without {'--top' if top else '--write-exclude, for no image would be left'}.")
    run = RunFolder.open(run_folder, not no_verify)
    rows = ranked(run)
    shown = rows if everything else rows[:top] if top else [row for row in rows if row.is_odd]
    _print(run, rows, shown)
    if listed and shown:
        added, before = add_to_list(listed, shown, run.folder)
        click.echo(f"{added} added to {listed}, which named {before}. Remove the lines of good images, then fit again:")
        click.echo(_command(run, f"data.exclude={listed}"))
        _warn_of_another_list(run, listed)
    elif listed:
        click.echo(f"Nothing is written to {listed}: no image stands out.")
    elif any(row.image.suspect and not row.image.dropped for row in rows):
        click.echo("Look at them. If they are no good images, fit without them:")
        if not any(row.image.dropped for row in rows):
            click.echo(_command(run, "data.drop_suspects=true"))
            click.echo("or without those that you choose:")
        click.echo(f"  anomaly suspects {quoted(run.folder)} --write-exclude exclude.txt")
        click.echo("then remove the lines of good images from that list, and:")
        click.echo(_command(run, "data.exclude=exclude.txt"))


def _print(run: RunFolder, rows: list[Ranked], shown: list[Ranked]) -> None:
    """How many stand out of how many, the table, and the rule."""
    import os

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from anomaly_core import printable
    from anomaly_teach.suspects import RULE

    console = Console()
    console = console if console.is_terminal else Console(width=200)  # a pipe has no width of its own

    def say(text: str) -> None:
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    odd, dropped = (sum(flags) for flags in ((row.is_odd for row in rows), (row.image.dropped for row in rows)))
    left_out = f" ({dropped} of them dropped: the run was fitted without)" if dropped else ""
    say(f"{odd or 'none'} of {len(rows)} normal images {'stand' if odd > 1 else 'stands'} out{left_out}")
    if run.calibration().scored_by == "holdout":
        say(
            "Only the images that set the threshold have a score, and the run did not learn from them. To have those that it "
            f"learnt from looked at too: {_command(run, 'base.calibration=cross', 'data.holdout=null').strip()}"
        )
    if shown:
        folder = _shared([row.image.path for row in shown])
        numbers = [Column(name, justify="right", no_wrap=True) for name in ("score", "deviations", "p-value")]
        table = Table(
            Column("image", overflow="fold"),
            *numbers,
            Column("picture", overflow="fold"),
            Column(""),
            box=None,
            padding=(0, 1),
            header_style="bold",
        )
        for row in shown:
            name = os.path.relpath(row.image.path, folder) if folder else row.image.path
            remark = "dropped" if row.image.dropped else "" if row.image.suspect else "does not stand out"
            cells = [
                name,
                f"{row.image.score:.4g}",
                f"{row.deviations:.1f}",
                f"{row.p_value:.2g}",
                row.image.picture or "-",
                remark,
            ]
            table.add_row(*(escape(printable(cell)) for cell in cells))
        console.print(table)
        if folder:
            say(f"images lie in {folder}")
        if any(row.image.picture for row in shown):
            say(f"pictures lie in {run.folder}")
    say(RULE)


def _shared(paths: list[str]) -> str:
    """The folder above all of them; empty where there is none."""
    import os

    try:
        return os.path.commonpath([str(Path(path).parent) for path in paths])
    except ValueError:  # absolute and relative ones
        return ""


def _command(run: RunFolder, *options: str) -> str:
    from anomaly_core import CONFIG, quoted

    return f"  anomaly run --config {quoted(run.folder / CONFIG)} " + " ".join(f"--set {quoted(option)}" for option in options)


def _warn_of_another_list(run: RunFolder, listed: Path) -> None:
    """A list replaces the one that the run was fitted with."""
    before = run.config().data.exclude
    if before and Path(before).absolute() != listed.absolute():
        click.echo(
            f"warning: the run was fitted without the images in {before!r}, and {str(listed)!r} would replace that list. "
            "To leave out both, name that file here.",
            err=True,
        )
