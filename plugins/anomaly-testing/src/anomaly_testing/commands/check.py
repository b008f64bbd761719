"""``anomaly check``: the conformance kit from the shell, a line for each check when it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_core import KINDS, Component, ConfigError, refuse_ignored, registry

if TYPE_CHECKING:
    from rich.console import Console

    from anomaly_testing.checks import Outcome

WIDTH = 160  # in a pipe
STYLES = {"passed": "green", "failed": "bold red", "expected": "yellow", "skipped": "cyan"}
WITH_OPTIONS = ("model", "dataset", "trainer", "hook")  # kinds whose checks take --set
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
    of_checks = listing and "--list runs no check. Leave one of them out."
    refused = ("everything", "distribution", "preset", "assignments", "only", "expected", "markdown")
    refuse_ignored(names=of_checks, **dict.fromkeys(refused, of_checks))
    refuse_ignored(everything=bool(names) and "it is every component, and some are named. Leave one of the two out.")
    if listing:
        _list(kind)
        return
    if not (names or everything or kind or distribution):
        raise click.UsageError("name a component, or give --all, --kind or --distribution. `anomaly list-plugins` lists them.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before timm reads it: weights that are not here are not fetched
    from rich.console import Console

    from anomaly_core import parse_assignment

    components = _chosen(names, kind, distribution)
    kinds = {component.kind for component in components}
    refuse_ignored(
        preset="model" not in kinds and "presets are those of models, and none is checked. Leave it out.",
        assignments=kinds.isdisjoint(WITH_OPTIONS) and "what is checked has no options. Leave it out.",
    )
    options = {
        "overrides": dict(parse_assignment(text) for text in assignments),
        "expected_failures": dict(_expectation(text) for text in expected),
        "preset": preset,
        "only": only or None,
    }
    console = Console() if Console().is_terminal else Console(width=WIDTH)
    checked: Checked = [(component, list(_reported(console, component, options))) for component in components]
    _summarize(console, checked)
    if markdown:
        _write(markdown, checked)
    if any(outcome.status == "failed" for _, outcomes in checked for outcome in outcomes):
        raise SystemExit(1)


def _chosen(names: Sequence[str], kind: str | None, distribution: str | None) -> list[Component]:
    """The components that the arguments mean; a broken one is chosen too, and fails."""
    from anomaly_testing.api import find

    components = [component for name in names for component in find(name)] if names else registry.components()
    chosen = [
        component
        for component in components
        if kind in (None, component.kind)
        and (distribution is None or component.answers_to(f"{distribution}:{component.name}"))
        and component.status != "blocked"
    ]
    if not chosen:
        parts = [*names, *([f"of kind {kind}"] if kind else []), *([f"of {distribution}"] if distribution else [])]
        raise ConfigError(f"no installed component is {' and '.join(parts)}. `anomaly list-plugins` shows what there is.")
    return chosen


def _expectation(text: str) -> tuple[str, str]:
    name, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise ConfigError(f"--expect-failure {text!r}: expected CHECK=REASON, such as 'exports=its search is not in torch'.")
    return name.strip(), reason.strip()


def _reported(console: Console, component: Component, options: Mapping[str, Any]) -> Iterator[Outcome]:
    """The outcomes of a component; the line of each is printed as soon as it is known, in a pipe too."""
    from anomaly_testing.api import checks_of, outcomes

    title = f"{component.kind} {component.name} ({component.owner})"
    names = list(options["only"] or checks_of(component.kind))
    width = max(map(len, names))
    console.print(title, style="bold", highlight=False, markup=False)  # rich flushes what it prints
    with console.status(title) as status:
        for number, outcome in enumerate(outcomes(component, **options), 1):
            _print(console, outcome, width)
            status.update(f"{title}: {number} of {len(names)} checks")
            yield outcome
    console.print()


def _print(console: Console, outcome: Outcome, width: int) -> None:
    """A line: check, outcome, seconds, and the reason in a column of its own."""
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=width, no_wrap=True)
    line.add_column(width=max(map(len, STYLES)), no_wrap=True)
    line.add_column(width=7, justify="right", no_wrap=True)
    line.add_column(overflow="fold")
    style = STYLES[outcome.status]
    line.add_row(outcome.check, Text(outcome.status, style), f"{outcome.seconds:.1f} s", Text(outcome.reason))
    console.print(line)


def _count(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return {status: count for status in STYLES if (count := sum(outcome.status == status for outcome in outcomes))}


def _summarize(console: Console, checked: Checked) -> None:
    everything = [outcome for _, outcomes in checked for outcome in outcomes]
    counts = ", ".join(f"{count} {status}" for status, count in _count(everything).items())
    console.print(f"{len(checked)} component{'s' if len(checked) != 1 else ''}: {counts or 'no check'}", highlight=False)


def _write(path: Path, checked: Checked) -> None:
    """A row for each component, and beneath them what was skipped or failed."""
    lines = ["| kind | name | distribution | passed | failed | expected | skipped |", "|---|---|---|---:|---:|---:|---:|"]
    notes = []
    for component, outcomes in checked:
        counts = _count(outcomes)
        cells = " | ".join(str(counts.get(status, 0)) for status in STYLES)
        lines.append(f"| {component.kind} | `{component.name}` | {component.distribution} | {cells} |")
        notes += [
            f"- {component.kind} `{component.name}`, `{outcome.check}` {outcome.status}: {outcome.reason}"
            for outcome in outcomes
            if outcome.status != "passed"
        ]
    try:
        path.write_text("\n".join([*lines, "", *notes]).rstrip() + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {str(path)!r}: {error}. Choose another file with --markdown.") from error


def _list(kind: str | None) -> None:
    from anomaly_testing.api import checks_of

    for each in KINDS if kind is None else (kind,):
        checks = checks_of(each)
        width = max(map(len, checks))
        click.echo(each)
        for name, meaning in checks.items():
            click.echo(f"  {name:<{width}}  {meaning}")
