"""``anomaly show``: every option of a component, its presets, and where it comes from."""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any

import click
from click.shell_completion import CompletionItem

from anomaly_core import BaseConfig, Component, describe_type, needs_of, preset_names, registry

SHOWN = ("model", "dataset", "trainer", "metric", "backbone")  # the kinds that it knows


def complete_shown(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names that ``anomaly show`` accepts."""
    names = ["base", *(name for kind in SHOWN for name in registry.group(kind))]
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


@click.command("show")
@click.argument("name", shell_complete=complete_shown)
def show(name: str) -> None:
    """Show every option of the model, data set or trainer NAME (or `base`): its type, default and meaning."""
    if name == "base":
        click.echo("base: what belongs to the run and to no component")
        _options("base", describe_options(BaseConfig))
        return
    for component in _components(name):
        spec = component.spec
        click.echo(f"{component.name} ({component.kind}): {spec.summary}")
        click.echo(f"  from      {component.distribution} {component.version}, {component.location}")
        for label in ("paper", "code", "homepage", "license", "trainer"):
            if value := getattr(spec, label, ""):
                click.echo(f"  {label:<9} {value}")
        if component.kind == "model":
            click.echo(f"  presets   {', '.join(preset_names(component)) or 'none'}")
        if component.section:
            _options(component.section, describe_options(component.config_class()))


def _components(name: str) -> list[Component]:
    """The usable components with a name, of any kind; raises an error that says why if there is none."""
    if components := [registry.group(kind)[name] for kind in SHOWN if name in registry.group(kind)]:
        return components
    for component in registry.components():
        if component.kind in SHOWN and name in (component.name, component.qualified):
            return [registry.group(component.kind)[name]]  # raises, and says why it cannot be used
    return [registry.models[name]]  # raises too, and suggests similar names


def _options(section: str, rows: list[tuple[str, str, object, str]]) -> None:
    width = max(len(f"{section}.{name}") for name, *_ in rows)
    click.echo(f"\n  options of section {section}:")
    for name, kind, value, meaning in rows:
        default = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        click.echo(f"    {f'{section}.{name}':<{width}}  {kind}; default {'none' if default in (None, '') else default}")
        if meaning:
            click.echo(f"    {'':<{width}}  {meaning}")


def describe_options(cls: type[Any]) -> list[tuple[str, str, Any, str]]:
    """(name, type, default, meaning) of every option of a config dataclass."""
    hints = typing.get_type_hints(cls, include_extras=True)
    rows = []
    for item in dataclasses.fields(cls):
        extras = typing.get_args(hints[item.name])[1:] if typing.get_origin(hints[item.name]) is Annotated else ()
        meaning = next((extra.description for extra in extras if getattr(extra, "description", None)), "")
        if needs := needs_of(cls).get(item.name):
            meaning = f"{meaning} ({needs})".strip()
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        rows.append((item.name, describe_type(hints[item.name]), default, meaning))
    return rows
