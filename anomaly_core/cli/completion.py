"""Options shared by several commands, and the completion of names in a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from anomaly_core.discovery import registry

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_names(kind: str, *more: str) -> Completer:
    """Completes the names of the installed components of a kind, and ``more`` words."""
    return lambda context, parameter, incomplete: _beginning([*registry.group(kind), *more], incomplete)


def complete_presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The presets of the methods already on the line: their specs are imported, and nothing of any other plugin."""
    from anomaly_core.config.resolve import preset_names

    chosen: Any = context.params.get("models") or context.params.get("model") or ()
    chosen = [chosen] if isinstance(chosen, str) else list(chosen)
    models = [name for name in chosen if name in registry.models]
    return _beginning((preset for name in models for preset in preset_names(registry.models[name])), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def all_alone(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """A callback: beside ``all``, another name would be ignored."""
    if "all" in names and set(names) != {"all"}:
        raise click.UsageError(f"{parameter.opts[0]} all is every one of them: leave the others out, or leave `all` out.")
    return names


category_option = click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME",
    callback=all_alone,
    help="A category; repeatable. None (or `all`) means all of them.",
)
metric_option = click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_names("metric"),
    help="A metric; repeatable. None means the defaults.",
)


def set_option(what: str) -> Callable[[Any], Any]:
    """``--set SECTION.KEY=VALUE``; its help says ``what`` it sets."""
    return click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help=f"{what}; repeatable.")


def refuse_ignored(**reasons: str | bool) -> None:
    """UsageError for an option that is on the command line, whatever its value, and would do nothing in this call.

    Args:
        reasons: for the name of a parameter, why it would do nothing and what to do instead; empty or false where it acts.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        reason = reasons.get(parameter.name or "")
        if reason and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            name = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            raise click.UsageError(f"{name} would be ignored: {reason}")
