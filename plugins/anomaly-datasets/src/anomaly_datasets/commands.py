"""``anomaly data``: verify a data set on disk against what is published, and prepare one from an archive or a download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from anomaly_datasets.facts import FACTS

if TYPE_CHECKING:
    from anomaly_datasets.prepare import Comparison

PARTS = ("train", "good", "bad", "masks")


@click.group()
def data() -> None:
    """Verify and prepare data sets on disk."""


@data.command()
@click.argument("name", type=click.Choice(list(FACTS)))
@click.option("--root", type=click.Path(path_type=Path), help="The data set's folder; else $ANOMALY_DATA/NAME, else data/NAME.")
def verify(name: str, root: Path | None) -> None:
    """Compare the images under a root with the published counts; exit code 1 where they differ."""
    _report(name, root)


@data.command()
@click.argument("name", type=click.Choice([name for name in FACTS if name not in ("elpv", "real_iad")]))
@click.option("--archive", type=click.Path(path_type=Path), help="A downloaded tar or zip file; without it, it is downloaded.")
@click.option("--url", help="Download from this copy instead of the publisher's address.")
@click.option(
    "--root", type=click.Path(path_type=Path), help="Where the data set goes; else $ANOMALY_DATA/NAME, else data/NAME."
)
def prepare(name: str, archive: Path | None, url: str | None, root: Path | None) -> None:
    """Unpack an archive safely under a root, then verify it; exit code 1 where it is not complete."""
    from anomaly_datasets.prepare import data_module, download_and_install, install

    if archive is not None and url is not None:
        raise click.UsageError("--archive and --url exclude each other: name one source.")
    root = root if root is not None else data_module(name, None).root
    if archive is None:
        download_and_install(name, root, url)
    else:
        install(name, archive, root)
    _report(name, root)


def _report(name: str, root: Path | None) -> None:
    from anomaly_datasets.prepare import TOGETHER, compare

    rows = compare(name, root)
    count = sum(row.category != TOGETHER for row in rows)
    for line in table(rows):
        click.echo(line)
    wrong = [row.category for row in rows if not row.agrees]
    if wrong == [TOGETHER]:
        click.echo(f"{name}: the numbers of all {count} categories together differ from what is published.")
    elif wrong:
        named = [category for category in wrong if category != TOGETHER]
        click.echo(f"{name}: {len(named)} of {count} categories differ from what is published: {', '.join(named)}.")
    if wrong:
        raise click.exceptions.Exit(1)
    click.echo(f"{name}: complete, {count} categor{'y' if count == 1 else 'ies'}.")


def table(rows: list[Comparison]) -> list[str]:
    """The lines of a table: for each part found/published, one number where they agree."""
    cells = [["category", *PARTS, ""]]
    for row in rows:
        pairs = zip(row.on_disk, row.published, strict=True)
        numbers = [str(count) if count == published else f"{count}/{published}" for count, published in pairs]
        cells.append([row.category, *numbers, "ok" if row.agrees else row.problem or "differs (found/published)"])
    widths = [max(len(line[column]) for line in cells) for column in range(len(PARTS) + 1)]
    lines = []
    for category, *numbers, note in cells:
        right = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([category.ljust(widths[0]), *right, note]).rstrip())
    return lines
