"""``anomaly check``: the conformance kit from the shell, a row a check."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anomaly_core.errors import ConfigError
from anomaly_core.registry import Component, registry
from anomaly_core.specs import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from anomaly_core.testing import Outcome

WIDTH = 160  # in a pipe
STYLES = {"passed": "green", "failed": "bold red", "expected": "yellow", "skipped": "cyan"}
Checked = list[tuple[Component, list["Outcome"]]]


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every installed component.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Components of this kind alone.")
@click.option("--distribution", metavar="NAME", help="Components of this distribution alone.")
@click.option("--preset", help="A model's preset that lies beneath; else edge where there is one.")
@click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Set an option; repeatable.")
@click.option("--only", multiple=True, metavar="CHECK", help="This check alone; repeatable.")
@click.option(
    "--expect-failure", "expected", multiple=True, metavar="CHECK=REASON", help="A failure that does not count; repeatable."
)
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write a table of all components here.")
@click.option("--list", "listing", is_flag=True, help="Say what the checks of each kind ask for, and run none.")
def check(
    names: tuple[str, ...],
    everything: bool,
    kind: str | None,
    distribution: str | None,
    preset: str | None,
    assignments: tuple[str, ...],
    only: tuple[str, ...],
    expected: tuple[str, ...],
    markdown: Path | None,
    listing: bool,
) -> None:
    """Check that the components NAME, or those of a kind or distribution, keep the contract; exit code 1 where one does not.

    Methods are trained for a moment on pictures that the kit draws; nothing is fetched, and nothing is written but --markdown.
    """
    if listing:
        _list(kind)
        return
    if not (names or everything or kind or distribution):
        raise click.UsageError("name a component, or give --all, --kind or --distribution. `anomaly list-plugins` lists them.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before timm reads it: weights that are not here are not fetched
    from rich.console import Console

    from anomaly_core.config import parse_assignment
    from anomaly_core.testing.api import outcomes

    components = _chosen(names, kind, distribution)
    overrides = dict(parse_assignment(text) for text in assignments)
    expectations = dict(_expectation(text) for text in expected)
    console = Console() if Console().is_terminal else Console(width=WIDTH)
    done: Checked = []
    for component in components:
        found = []
        title = f"{component.kind} {component.name} ({component.owner})"
        with console.status(title) as status:
            for outcome in outcomes(
                component, expected_failures=expectations, overrides=overrides, preset=preset, only=only or None
            ):
                found.append(outcome)
                status.update(f"{title}: {len(found)} checks")
        _print(console, title, found)
        done.append((component, found))
    _summarize(console, done)
    if markdown:
        _write(markdown, done)
    if any(outcome.status == "failed" for _, found in done for outcome in found):
        raise SystemExit(1)


def _chosen(names: Sequence[str], kind: str | None, distribution: str | None) -> list[Component]:
    """The components that the arguments mean; a broken one is chosen too, and fails."""
    from anomaly_core.testing.api import find

    components = [found for name in names for found in find(name)] if names else registry.components()
    chosen = [
        component
        for component in components
        if kind in (None, component.kind)
        and (distribution is None or component.answers_to(f"{distribution}:{component.name}"))
        and component.status != "blocked"
    ]
    if not chosen:
        parts = [*names, *([f"of kind {kind}"] if kind else []), *([f"of {distribution}"] if distribution else [])]
        raise ConfigError(f"nothing that is installed is {' and '.join(parts)}. `anomaly list-plugins` shows what there is.")
    return chosen


def _expectation(text: str) -> tuple[str, str]:
    name, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise ConfigError(f"--expect-failure {text!r}: expected CHECK=REASON, such as 'exports=its search is not in torch'.")
    return name.strip(), reason.strip()


def _print(console: Console, title: str, found: list[Outcome]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("check", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for outcome in found:
        style = STYLES[outcome.status]
        table.add_row(outcome.check, Text(outcome.status, style), f"{outcome.seconds:.1f}", Text(outcome.reason))
    console.print(table)
    console.print()


def _count(found: list[Outcome]) -> dict[str, int]:
    return {status: count for status in STYLES if (count := sum(outcome.status == status for outcome in found))}


def _summarize(console: Console, done: Checked) -> None:
    everything = [outcome for _, found in done for outcome in found]
    counts = ", ".join(f"{count} {status}" for status, count in _count(everything).items())
    console.print(f"{len(done)} component{'s' if len(done) != 1 else ''}: {counts or 'no check'}", highlight=False)


def _write(path: Path, done: Checked) -> None:
    """A row a component; what was skipped or fails is told beneath."""
    lines = ["| kind | name | distribution | passed | failed | expected | skipped |", "|---|---|---|---:|---:|---:|---:|"]
    notes = []
    for component, found in done:
        counts = _count(found)
        cells = " | ".join(str(counts.get(status, 0)) for status in STYLES)
        lines.append(f"| {component.kind} | `{component.name}` | {component.distribution} | {cells} |")
        notes += [
            f"- {component.kind} `{component.name}`, `{outcome.check}` {outcome.status}: {outcome.reason}"
            for outcome in found
            if outcome.status != "passed"
        ]
    try:
        path.write_text("\n".join([*lines, "", *notes]).rstrip() + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {str(path)!r}: {error}. Choose another file with --markdown.") from error


def _list(kind: str | None) -> None:
    from anomaly_core.testing import checks_of

    for each in KINDS if kind is None else (kind,):
        click.echo(each)
        for name, meaning in checks_of(each).items():
            click.echo(f"  {name:<26} {meaning}")
