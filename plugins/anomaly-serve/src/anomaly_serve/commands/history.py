"""``anomaly history``: the verdicts of a service as a table, their backup, and whether all is sound."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_serve.records import MARKS

if TYPE_CHECKING:
    from anomaly_serve.store.history import Filters

FILE = click.Path(dir_okay=False, path_type=Path)
_MOMENT = click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"))


@click.group("history")
def history() -> None:
    """Export, back up, restore and check the history of `anomaly serve`.

    STORE is the folder that the service was given after --store. It may be running, but for `restore`.
    """


def _store(command: Callable[..., None]) -> Callable[..., None]:
    """The store that each command is about."""
    url = click.option("--database", "url", metavar="URL", help="The database, if the service was given one.")
    folder = click.argument("folder", metavar="STORE", type=click.Path(file_okay=False, path_type=Path))
    return folder(url(command))


@history.command("export", short_help="Verdicts as CSV, with who set each threshold.")
@_store
@click.option("--product", metavar="NAME", help="Only this product; all by default.")
@click.option("--since", type=_MOMENT, metavar="TIME", help="From this day or moment on, by this computer's clock.")
@click.option("--until", type=_MOMENT, metavar="TIME", help="Before this day or moment.")
@click.option("--version", type=int, metavar="N", help="Only by this version; needs --product.")
@click.option("--verdict", type=click.Choice(["anomalous", "normal"]), help="Only these.")
@click.option("--mark", type=click.Choice([*MARKS, "any", "none"]), help="Only with this mark.")
@click.option("--text", metavar="TEXT", help="Only with this in the image's name, or with this id.")
@click.option("--output", type=FILE, metavar="FILE", help="A new file; standard output by default.")
def export(
    folder: Path,
    url: str | None,
    product: str | None,
    since: datetime | None,
    until: datetime | None,
    version: int | None,
    verdict: str | None,
    mark: Any,
    text: str | None,
    output: Path | None,
) -> None:
    """Write the verdicts of a service as CSV, newest first: with version and threshold, who set that and why, and the mark
    with who gave it. Times in the table are UTC."""
    from anomaly_core import RunError
    from anomaly_serve.store.archive import Archive

    if version is not None and product is None:
        raise click.UsageError("--version counts within a product: give --product too.")
    filters: Filters = {
        "since": None if since is None else since.timestamp(),
        "until": None if until is None else until.timestamp(),
        "version": version,
        "is_anomalous": None if verdict is None else verdict == "anomalous",
        "mark": mark,
        "text": text,
    }
    with Archive.opened(url, folder) as archive:
        names = archive.products()
        if product is not None and product not in names:
            raise RunError(f"there is no product {product!r}. Known: {', '.join(names) or 'none'}.")
        try:
            # newline: the lines end as they are written, on Windows too
            opened = nullcontext(sys.stdout) if output is None else output.open("x", encoding="utf-8", newline="")
        except OSError as error:
            raise RunError(f"cannot write {str(output)!r}: {error.strerror}. Give the name of a new file.") from error
        with opened as file:
            for number, name in enumerate([product] if product else names):
                for place, lines in enumerate(archive.export_csv(name, **filters)):
                    if number == 0 or place > 0:  # one line of columns
                        file.write(lines)


@history.command("changes", short_help="Who changed what, as CSV.")
@_store
def changes(folder: Path, url: str | None) -> None:
    """Write the diary of a service as CSV: who changed which threshold, version or mark, and when (UTC)."""
    from anomaly_serve.store.archive import Archive

    with Archive.opened(url, folder) as archive:
        for number, name in enumerate(archive.products()):
            for place, lines in enumerate(archive.export_changes(name)):
                if number == 0 or place > 0:
                    click.echo(lines, nl=False)


@history.command("backup", short_help="Copy the database while the service runs.")
@_store
@click.argument("target", metavar="[FILE]", type=FILE, required=False)
def backup(folder: Path, url: str | None, target: Path | None) -> None:
    """Copy the database to a new FILE, by default into the folder `backups` of STORE, while the service runs. The kept images
    are not copied: copy the folder `images` yourself."""
    from anomaly_serve.store.archive import Archive
    from anomaly_serve.store.database import BACKUPS

    with Archive.opened(url, folder) as archive:
        target = target or folder / BACKUPS / f"backup-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.db"
        archive.backup(target)
    click.echo(f"{target}: {target.stat().st_size:,} bytes")


@history.command("restore", short_help="Put a backup in the place of a damaged database.")
@_store
@click.argument("source", metavar="BACKUP", type=FILE)
def restore(folder: Path, url: str | None, source: Path) -> None:
    """Put a BACKUP in the place of the database of STORE, whose service must not run. The present database is kept, and so are
    images of verdicts that the backup does not have."""
    from anomaly_serve.store import restoring
    from anomaly_serve.store.sweeping import ASIDE

    done = restoring.restore(url, folder, source)
    until = "" if done.until is None else f", the last of {datetime.fromtimestamp(done.until):%Y-%m-%d %H:%M:%S}"
    click.echo(f"{folder}: {done.verdicts:,} verdicts{until}")
    if done.later:
        click.echo(f"{done.later:,} images of verdicts that are not among them: {folder / ASIDE}")
    if done.former:
        click.echo(f"the former database: {done.former}")


@history.command("check", short_help="Whether the database is sound and the images are there.")
@_store
@click.pass_context
def check(context: click.Context, folder: Path, url: str | None) -> None:
    """Look at the whole database and at every kept image, and end with status 1 if the database is damaged or an image is
    not as it was written."""
    from anomaly_serve.store.archive import Archive

    with Archive.opened(url, folder) as archive:
        found = archive.check()
    for fault in found.faults:
        click.echo(f"damaged: {fault}")
    click.echo(f"{found.verdicts:,} verdicts; {found.images:,} images, {found.used:,} bytes")
    if found.missing:
        click.echo(f"{len(found.missing):,} images are missing or damaged, such as that of verdict {found.missing[0]}")
    if found.unknown:
        click.echo(f"{len(found.unknown):,} files belong to no verdict (yet), such as {found.unknown[0]}")
    click.echo("damaged: `anomaly history restore` puts a backup in its place" if found.faults else "the database is sound")
    if found.faults or found.missing:
        context.exit(1)
