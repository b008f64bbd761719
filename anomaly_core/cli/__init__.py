"""The command ``anomaly``: a lazy click group whose subcommands are found by entry point."""

from __future__ import annotations

import inspect
import io
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from anomaly_core.cli.console import hand_over, prepared
from anomaly_core.discovery import known_summary, registry
from anomaly_core.errors import AnomalyError, PluginError, described, printable
from anomaly_core.installed import VERSION
from anomaly_core.process import end, is_program, keep_memory


def _block(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:
    if not names:
        return
    known = {name for c in registry.components() for name in (c.distribution, c.name, c.qualified)}
    for name in names:
        if name not in known:
            click.echo(f"warning: --no-plugin {name}: nothing that is installed has that name", err=True)
    registry.block(*names)


# Every command takes these, before or after its name.
SHARED_OPTIONS: list[click.Parameter] = [
    click.Option(
        ["--no-plugin"],
        multiple=True,
        metavar="NAME",
        is_eager=True,
        expose_value=False,
        callback=_block,
        help="Leave out a distribution or component; repeatable.",
    ),
    click.Option(["--debug"], is_flag=True, is_eager=True, expose_value=False, help="Show the traceback of an error."),
]


class LazyGroup(click.Group):
    """Lists its commands from metadata; imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(registry.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            component = registry.commands[cmd_name]
        except PluginError as error:
            if ctx.resilient_parsing:  # a shell is completing a line: print no message
                return None
            raise click.UsageError(str(error), ctx) from None
        command: click.Command = component.load()
        if not any(parameter.name == "debug" for parameter in command.params):
            command.params.extend(SHARED_OPTIONS)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The command names and the options, without importing any command; click's own method would import them."""
        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Take the summaries from metadata: the help imports nothing of any plugin."""
        rows = [(name, printable(known_summary(component))) for name, component in registry.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What a plugin raises names it; a SystemExit is the right of the command's own distribution alone."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except BaseException as raised:
            command = registry.commands.get(ctx.invoked_subcommand or "")
            culprit = registry.culprit(raised)
            own = culprit is None or (command is not None and culprit.distribution == command.distribution)
            error = raised if isinstance(raised, SystemExit) and own else registry.attributed(raised)
            if error is raised:
                raise
            raise error from raised


@click.group(cls=LazyGroup, params=SHARED_OPTIONS.copy(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="anomaly")
def cli() -> None:
    """Find out whether an image is normal, or not and where."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Every error is one paragraph; only --debug shows its traceback.

    Where it is the process's whole program, as in the script ``anomaly``, the process is set up for that, and ended.
    """
    if not is_program(inspect.currentframe()):
        _run(arguments)
    keep_memory()
    try:
        _run(arguments)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            end(stop.code or 0)
        raise


def _run(arguments: list[str] | None) -> NoReturn:
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        Path.cwd()  # without one, torch ends the process
    except OSError as error:
        _fail(f"the current folder is gone: {error}. Change to one that is there, and run the same command again.", 1, debug)
    try:
        with prepared():
            output = sys.stdout
            try:
                result: Any = cli.main(arguments, prog_name="anomaly", standalone_mode=False, obj=arguments or sys.argv[1:])
            finally:
                sys.stdout.flush()  # here, where an error is still reported
    except (click.exceptions.Abort, KeyboardInterrupt):
        text = "What was complete is kept; run the same command again, with --resume where the command has it, to go on."
        _fail(f"interrupted. {text}", 130, debug)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AnomalyError as error:
        _fail(str(error), error.exit_code, debug)
    except (BrokenPipeError, SystemExit) as stop:
        # of a pipe that nobody reads, click makes status 1 and puts another stream in its place; rich makes status 1
        if isinstance(stop, SystemExit) and sys.stdout is output and not isinstance(stop.__context__, BrokenPipeError):
            raise
        sys.stdout = io.StringIO()  # what the other still holds would raise at Python's end
        sys.exit(141)
    except OSError as error:
        culprit = registry.culprit(error)
        where = f" (in {culprit.owner})" if culprit else ""
        _fail(
            f"{error}{where}. Check the path, the rights and the space on the disk, then run the same command again.", 1, debug
        )
    except BaseException as error:  # last resort: show no traceback unless asked
        _fail(f"unexpected {described(error)}. Run again with --debug and report what it shows.", 1, debug)
    sys.exit(result if isinstance(result, int) else 0)


def _fail(text: str, code: int, debug: bool) -> NoReturn:
    shown = printable(f"{traceback.format_exc() if debug else ''}Error: {text}", kept="\n\t")
    if not hand_over(shown, code):
        click.echo(shown, err=True)
    sys.exit(code)
