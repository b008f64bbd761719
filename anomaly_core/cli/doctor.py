"""``anomaly doctor``: what is installed and works, ready to be put into a bug report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="experiments",
    show_default=True,
    metavar="DIR",
    help="The folder that runs are written to.",
)
def doctor(as_json: bool, output: Path) -> None:
    """Say what is installed and works: versions, plugins, devices, backbones, folders, variables.

    Imports every plugin. The exit code is 1 if something is broken. Prints no secrets: its output can go into a bug report.
    """
    from anomaly_core.doctor import examine

    report = examine(output)
    if as_json:
        click.echo(json.dumps({"healthy": not report.problems, **dataclasses.asdict(report)}, indent=2, ensure_ascii=False))
    else:
        for title, rows in report.sections.items():
            click.echo(title)
            width = max(map(len, rows), default=0)
            for name, value in rows.items():
                click.echo(f"  {name:<{width}}  {value}")
            if not rows:
                click.echo("  none")
        for title, lines in (("notes", report.notes), ("problems", report.problems)):
            if lines:
                click.echo(title)
                click.echo("".join(f"  - {line}\n" for line in lines), nl=False)
        click.echo("broken" if report.problems else "healthy")
    if report.problems:
        raise SystemExit(1)
