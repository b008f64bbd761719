"""``anomaly backbones``: the pretrained weights that methods need, listed, fetched and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

UNKNOWN = (
    "It can be read; no more was checked, as timm has no model of this name. A method may have weights of its own; those of a "
    "backbone are named <model>.<tag>.safetensors, or as they were published."
)


@click.group("backbones")
def backbones() -> None:
    """List, fetch and verify the pretrained weights that methods need.

    They are looked for in the backbone folder ($ANOMALY_BACKBONES, else ./backbones), then in installed distributions, then
    in timm's hub cache.
    """


@backbones.command("list", short_help="Which weights presets need, and where they are.")
@click.option("--folder", type=click.Path(path_type=Path), metavar="DIR", help="Another backbone folder.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, for programs.")
def list_(folder: Path | None, as_json: bool) -> None:
    """List the backbones that the presets of the installed methods need, and where their weights are."""
    from anomaly_features.backbones import Backbones
    from anomaly_features.weights import needed, sha256

    places = Backbones(folder)
    rows: list[dict[str, Any]] = []
    for need in needed(places):
        path = need.file.path if need.file else None
        rows.append(
            {
                "backbone": need.name,
                "found": need.file.place if need.file else None,
                "path": str(path) if path else None,
                "size": path.stat().st_size if path else None,
                "sha256": sha256(path) if path else None,
                "presets": need.presets,
                "problem": need.problem,
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['backbone']}: {_where(row)}")
        if row["path"]:
            click.echo(f"    {row['path']}\n    {megabytes(row['size'])}, sha256 {row['sha256']}")
        click.echo(f"    needed by {', '.join(row['presets'])}")
    absent = [row["backbone"] for row in rows if not row["path"]]
    click.echo(f"{len(rows) - len(absent)} of {len(rows)} found; the backbone folder is {places.folder.absolute()}")
    if absent:
        click.echo(f"With internet, `anomaly backbones fetch {absent[0]}` brings a missing one.")


def _where(row: dict[str, Any]) -> str:
    if row["problem"]:
        return f"cannot be looked for: {row['problem']}"
    if not row["found"]:
        return "not found"
    return f"found in the {row['found']}" if row["found"] in ("folder", "hub cache") else f"found in {row['found']}"


@backbones.command("fetch", short_help="Download weights into the backbone folder.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--to", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Where it goes; else the backbone folder.")
def fetch(names: tuple[str, ...], folder: Path | None) -> None:
    """Download the weights NAME, timm's name of a model, into the backbone folder. Needs internet."""
    from anomaly_features.backbones import Backbones
    from anomaly_features.weights import fetch as fetched
    from anomaly_features.weights import sha256

    for name in names:
        file = fetched(name, Backbones(folder).folder)
        click.echo(f"{file.path}\n    {megabytes(file.path.stat().st_size)}, sha256 {sha256(file.path)}")


@backbones.command("verify", short_help="Prove that weights files are whole.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
def verify(folder: Path | None) -> None:
    """Read every weights file in DIR and compare it with its model and the digits in its name; exit code 1 if one is bad.

    A file that timm has no model for, such as EfficientAD's teacher, is only read.

    Without DIR: the backbone folder, if there is one, and the files that installed distributions carry.
    """
    from anomaly_features.backbones import Backbones
    from anomaly_features.weights import verify as verified
    from anomaly_features.weights import verify_carried

    own = Backbones(folder).folder
    verdicts = verified(own) if folder is not None or own.is_dir() else []
    verdicts += verify_carried() if folder is None else []
    for verdict in verdicts:
        click.echo(f"{'bad' if verdict.problem else 'ok ':<3}  {verdict.path}")
        click.echo(f"     {verdict.name or 'no known model'}, {megabytes(verdict.size)}, sha256 {verdict.sha256 or 'unknown'}")
        if verdict.problem:
            click.echo(f"     {verdict.problem}")
        elif not verdict.name:
            click.echo(f"     {UNKNOWN}")
    bad = sum(bool(verdict.problem) for verdict in verdicts)
    where = f"in {own.absolute()}" if folder is not None else f"in {own.absolute()} and in installed distributions"
    if not verdicts:
        click.echo(f"no weights files (.safetensors, .pth) {where}")
        raise SystemExit(1)
    click.echo(f"{len(verdicts) - bad} of {len(verdicts)} files {where} are whole")
    if bad:
        raise SystemExit(1)


def megabytes(size: int) -> str:
    """A file's size in MB of 10^6 bytes."""
    return f"{size / 1e6:.1f} MB"
