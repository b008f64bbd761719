"""``anomaly list-plugins``: what is installed, and from where, read from metadata alone."""

from __future__ import annotations

import json
import sys

import click

from anomaly_core import DISTRIBUTION, KINDS, Component, MissingLibrary, registry

COLUMNS = ("kind", "name", "distribution", "version", "status", "location")


@click.command("list-plugins")
@click.option("--kind", type=click.Choice(list(KINDS)), help="One kind of component alone.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, for programs.")
@click.option("--check", is_flag=True, help="Import each in turn; the exit code is 1 if any is broken.")
def list_plugins(kind: str | None, as_json: bool, check: bool) -> None:
    """Show what is installed, what of it is damaged, and where. Without --check nothing of a plugin is imported."""
    rows = []
    for component in registry.components() + registry.damaged():
        if kind in (None, component.kind) or component.kind == DISTRIBUTION:
            row = {name: getattr(component, name) for name in ("kind", "name", "distribution", "version", "location")}
            row["status"], row["reason"] = examined(component) if check else (component.status, component.reason)
            rows.append(row)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        _print_lines(rows)
    if check and any(row["status"] in ("broken", "incompatible", "damaged") for row in rows):
        raise SystemExit(1)


def examined(component: Component) -> tuple[str, str]:
    """Status and reason of a component whose module was imported."""
    if component.status in ("ok", "conflict") and (failure := component.check()):
        return "unavailable" if isinstance(failure, MissingLibrary) else "broken", str(failure)
    return component.status, component.reason


def _print_table(rows: list[dict[str, str]]) -> None:
    """For a terminal: text that is too wide is folded, except for the name."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        style = {"ok": "", "blocked": "yellow", "unavailable": "yellow"}.get(row["status"], "red")
        table.add_row(*(Text(row[column], style=style) for column in COLUMNS))
    console = Console()
    console.print(table)
    for row in rows:
        if row["reason"]:
            console.print(Text(f"{row['distribution']}:{row['name']}: {row['reason']}"))


def _print_lines(rows: list[dict[str, str]]) -> None:
    """For a pipe: one line per component, of any length, with its reason below."""
    rows = [{column: column for column in COLUMNS}, *rows]
    widths = [max(len(row[column]) for row in rows) for column in COLUMNS]
    for row in rows:
        click.echo("  ".join(row[column].ljust(width) for column, width in zip(COLUMNS, widths, strict=True)).rstrip())
        if row.get("reason"):
            click.echo(f"    {row['reason']}")
