"""``anomaly compare``: finished runs side by side, with intervals of their differences."""

from __future__ import annotations

import json

import click

from anomaly_core import printable


@click.command("compare")
@click.argument("folders", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--draws", type=click.IntRange(min=100), default=2000, show_default=True, help="Draws of the bootstrap.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option("--no-verify", is_flag=True, help="Take the files as they are, without comparing them with what was written.")
def compare(folders: tuple[str, ...], draws: int, seed: int, as_json: bool, no_verify: bool) -> None:
    """Put finished runs side by side: image AUROC, and its difference to the first run with a 95 % interval.

    The interval is a paired bootstrap over the test images that all of the runs scored.
    """
    if len(folders) < 2:
        raise click.UsageError("name two runs or more.")
    from anomaly_benchmark.comparison import compare as compared

    rows = compared(folders, draws=draws, seed=seed, verify=not no_verify)
    if as_json:
        names = ("auroc", "difference", "low", "high", "images", "is_real")
        click.echo(json.dumps([{"folder": str(row.folder), **{n: getattr(row, n) for n in names}} for row in rows], indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="bold")
    for column, justify in (("run", "left"), ("image auroc", "right"), ("difference", "right"), ("95 % interval", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]  # rich's literal
    table.add_column("", overflow="fold")
    for number, row in enumerate(rows):
        name = escape(printable(str(row.folder)))
        if not number:
            table.add_row(name, f"{row.auroc:.4f}", "", "", "the others are compared with this one")
            continue
        verdict = ("better" if row.difference > 0 else "worse") if row.is_real else "may be chance"
        table.add_row(
            name,
            f"{row.auroc:.4f}",
            f"{row.difference:+.4f}",
            f"{row.low:+.4f} to {row.high:+.4f}",
            verdict,
        )
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    click.echo(f"{rows[0].images} test images, {draws} draws.")
