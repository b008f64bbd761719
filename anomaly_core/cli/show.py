"""``anomaly show``: every option of a component, its presets, and where it comes from."""

from __future__ import annotations

import click

from anomaly_core.cli.completion import shown
from anomaly_core.errors import PluginError
from anomaly_core.registry import Component, registry

SECTIONS = {"model": "model", "dataset": "data", "trainer": "train"}


@click.command("show")
@click.argument("name", shell_complete=shown)
def show(name: str) -> None:
    """Show every option of the model, data set or trainer NAME (or `base`): its type, default and meaning."""
    from anomaly_core.config import describe_options, preset_names
    from anomaly_core.options import BaseConfig

    if name == "base":
        click.echo("base: what belongs to the run and to no component")
        _options("base", describe_options(BaseConfig))
        return
    for component in _find(name):
        spec = component.spec
        click.echo(f"{component.name} ({component.kind}): {spec.summary}")
        click.echo(f"  from      {component.distribution} {component.version}, {component.location}")
        for label in ("paper", "code", "homepage", "license", "trainer"):
            if value := getattr(spec, label, ""):
                click.echo(f"  {label:<9} {value}")
        if component.kind == "model":
            click.echo(f"  presets   {', '.join(preset_names(component)) or 'none'}")
        if component.kind in SECTIONS:
            _options(SECTIONS[component.kind], describe_options(component.config_class()))


def _find(name: str) -> list[Component]:
    groups = (registry.models, registry.datasets, registry.trainers, registry.metrics, registry.backbones)
    found = [group[name] for group in groups if name in group]
    if not found:
        for group in groups:
            if any(c.name == name or c.qualified == name for c in registry.components() if c.kind == group._kind):
                return [group[name]]  # raises, and says why it cannot be used
        try:
            return [registry.models[name]]
        except PluginError as error:
            others = ", ".join(n for group in groups[1:3] for n in group)
            raise PluginError(f"{error} Data sets and trainers: {others}.") from None
    return found


def _options(section: str, rows: list[tuple[str, str, object, str]]) -> None:
    width = max(len(section) + 1 + len(name) for name, *_ in rows)
    click.echo(f"\n  options of section {section}:")
    for name, kind, default, meaning in rows:
        shown = ",".join(map(str, default)) if isinstance(default, list | tuple) else default
        click.echo(f"    {f'{section}.{name}':<{width}}  {kind}; default {'none' if shown is None or shown == '' else shown}")
        if meaning:
            click.echo(f"    {'':<{width}}  {meaning}")
