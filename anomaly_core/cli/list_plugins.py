"""``anomaly list-plugins``: what is installed, and from where, out of metadata alone."""

from __future__ import annotations

import json

import click

from anomaly_core.registry import registry
from anomaly_core.specs import KINDS


@click.command("list-plugins")
@click.option("--kind", type=click.Choice(list(KINDS)), help="One kind of component alone.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, for programs.")
@click.option("--check", is_flag=True, help="Import each in turn; the exit code is 1 if any is broken.")
def list_plugins(kind: str | None, as_json: bool, check: bool) -> None:
    """Show what is installed, and from where. Without --check nothing of a plugin is imported."""
    components = [component for component in registry.components() if kind in (None, component.kind)]
    rows = []
    for component in components:
        reason = component.check() if check else component.reason
        status = "broken" if reason and component.status == "ok" else component.status
        rows.append(
            {
                "kind": component.kind,
                "name": component.name,
                "distribution": component.distribution,
                "version": component.version,
                "location": component.location,
                "status": status,
                "reason": reason or component.reason,
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _table(rows)
    if check and any(row["status"] in ("broken", "incompatible") for row in rows):
        raise SystemExit(1)


def _table(rows: list[dict[str, str]]) -> None:
    widths = {key: max([len(key), *(len(row[key]) for row in rows)]) for key in ("kind", "name", "distribution", "version", "status")}
    click.echo("  ".join(key.ljust(width) for key, width in widths.items()) + "  location")
    for row in rows:
        click.echo("  ".join(row[key].ljust(width) for key, width in widths.items()) + f"  {row['location']}")
        if row["reason"]:
            click.echo(f"    {row['reason']}")
