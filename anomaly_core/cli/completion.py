"""``anomaly completion``, and the names that a shell completes out of metadata: a key press waits for nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from anomaly_core.registry import registry

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
VARIABLE = "_ANOMALY_COMPLETE"  # click's own name for the program `anomaly`


def names(kind: str, *more: str) -> Completer:
    """Completes the names of the installed components of a kind, and ``more`` words."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = [*registry.group(kind), *more]
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]

    return complete


def presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The presets of the methods that stand on the line already, else of all; reads specs, which import nothing heavy."""
    from anomaly_core.config import preset_names

    chosen: Any = context.params.get("models") or context.params.get("model") or ()
    chosen = [chosen] if isinstance(chosen, str) else list(chosen)
    models = [name for name in chosen if name in registry.models] or list(registry.models)
    known = dict.fromkeys(preset for name in models for preset in preset_names(registry.models[name]))
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def shown(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What ``anomaly show`` takes."""
    known = ["base", *(name for kind in ("model", "dataset", "trainer", "metric", "backbone") for name in registry.group(kind))]
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and the names of components.

    \b
    bash: anomaly completion bash > ~/.anomaly-complete.bash && echo ". ~/.anomaly-complete.bash" >> ~/.bashrc
    zsh:  anomaly completion zsh > ~/.anomaly-complete.zsh && echo ". ~/.anomaly-complete.zsh" >> ~/.zshrc
    fish: anomaly completion fish > ~/.config/fish/completions/anomaly.fish
    """
    found = get_completion_class(shell)
    if found is None:  # click lost a shell that it had
        raise click.UsageError(f"this click has no completion for {shell}.")
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "anomaly", VARIABLE).source())
