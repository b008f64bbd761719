"""``anomaly completion``: the script with which a shell completes commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and the names of components.

    \b
    bash: anomaly completion bash > ~/.anomaly-complete.bash && echo ". ~/.anomaly-complete.bash" >> ~/.bashrc
    zsh:  anomaly completion zsh > ~/.anomaly-complete.zsh && echo ". ~/.anomaly-complete.zsh" >> ~/.zshrc
    fish: anomaly completion fish > ~/.config/fish/completions/anomaly.fish
    """
    completer = get_completion_class(shell)
    if completer is None:  # this version of click dropped the shell
        raise click.UsageError(f"this click has no completion for {shell}.")
    root = click.get_current_context().find_root().command
    click.echo(completer(root, {}, "anomaly", "_ANOMALY_COMPLETE").source())  # click's own name for the program `anomaly`
