"""Checks of commands: subcommands of ``anomaly``."""

from __future__ import annotations

import click
from click.testing import CliRunner

from anomaly_core import PluginError
from anomaly_testing.checks import Subject, named, require
from anomaly_testing.common import SPEC


def is_a_command(subject: Subject) -> None:
    """target is a click command."""
    command = subject.component.load()
    require(isinstance(command, click.Command), f"target is a {type(command).__name__}, not a click.Command.")


def helps(subject: Subject) -> None:
    """--help says what it does and what each option means."""
    command = _command(subject)
    result = CliRunner().invoke(command, ["--help"], prog_name=f"anomaly {subject.component.name}")
    require(result.exit_code == 0, f"--help ends with {result.exit_code}: {result.output}{result.exception or ''}")
    require(command.help and command.help.strip(), "it has no docstring, so that --help says nothing.")
    for leaf in _leaves(command):
        for option in leaf.params:
            if isinstance(option, click.Option) and not option.hidden and option.expose_value:
                require(option.help, f"{leaf.name} {option.opts[0]} has no help text.")


def refuses_nonsense(subject: Subject) -> None:
    """An unknown option is a usage error: exit code 2, no traceback."""
    result = CliRunner().invoke(_command(subject), ["--no-such-option"])
    require(result.exit_code == 2, f"an unknown option ends with the exit code {result.exit_code}, not 2.")


COMMAND = SPEC + named(is_a_command, helps, refuses_nonsense)


def _command(subject: Subject) -> click.Command:
    command = subject.component.load()
    if not isinstance(command, click.Command):
        raise PluginError(f"the command {subject.component.name!r} is a {type(command).__name__}, not a click.Command.")
    return command


def _leaves(command: click.Command) -> list[click.Command]:
    """The command, or all below a group."""
    if not isinstance(command, click.Group):
        return [command]
    return [leaf for subcommand in command.commands.values() for leaf in _leaves(subcommand)]
