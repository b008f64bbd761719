"""``anomaly show``: every option of a component, its presets, and where it comes from."""

from __future__ import annotations

import click

from anomaly_core.cli.completion import SHOWN, complete_shown
from anomaly_core.component import Component
from anomaly_core.discovery import registry


@click.command("show")
@click.argument("name", shell_complete=complete_shown)
def show(name: str) -> None:
    """Show every option of the model, data set or trainer NAME (or `base`): its type, default and meaning."""
    from anomaly_core.config.describe import describe_options
    from anomaly_core.config.resolve import preset_names
    from anomaly_core.config.sections import BaseConfig

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
