"""The one exception family: every message says what happened, where, and the next step."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from types import FrameType

LONGEST = 2000  # letters of a message that is not ours
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # act on a terminal, or end a line; lone surrogates are names' bytes


class AnomalyError(Exception):
    """An error that the user can fix. The command line prints it as one paragraph, without a traceback."""

    exit_code = 1


class ConfigError(AnomalyError):
    """An option, a value or a name that does not exist: a usage error."""

    exit_code = 2


class UnusedOption(ConfigError):
    """An option that would be ignored, ``option``, because another one that it needs is not set."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class PluginError(AnomalyError):
    """A component that is missing, broken, blocked or claimed by two distributions."""

    exit_code = 2


class PluginFailure(PluginError):
    """A plugin's own code raised something that is no AnomalyError, or returned something of the wrong type."""

    exit_code = 1


class MissingLibrary(PluginError):
    """A working component that needs a library that is not installed; the message gives the install command."""


class DataError(AnomalyError):
    """Images, masks or folders that cannot be used."""


class RunError(AnomalyError):
    """A run's folder that is missing, incomplete or not writable."""


class UndefinedMetric(AnomalyError):
    """A metric that has no value on this data; the message is the reason."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a command, as opposed to a KeyboardInterrupt that a plugin raises."""


class Terminated(SystemExit):
    """SIGTERM or SIGHUP during a command, as opposed to a SystemExit that a plugin raises; ``code`` is 128 + the signal."""


def stop(number: int, frame: FrameType | None) -> None:
    """The signal handler of commands."""
    raise Interrupted if number == signal.SIGINT else Terminated(128 + number)


def is_stop(error: BaseException) -> bool:
    """Whether a signal stopped the process, rather than a plugin. Outside a command, every KeyboardInterrupt is Ctrl-C."""
    in_command = signal.getsignal(signal.SIGINT) is stop
    return isinstance(error, Interrupted | Terminated) or (isinstance(error, KeyboardInterrupt) and not in_command)


def described(error: BaseException) -> str:
    """``Type: message`` of any exception, in one line of bounded length, even if its ``__str__`` fails."""
    try:
        text = str(error)
        text = " ".join((text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}").split())
    except BaseException as second:
        if is_stop(second):
            raise
        text = "(it cannot say what is wrong)"
    return printable(f"{type(error).__name__}: {text}".removesuffix(": "))


def printable(text: str, kept: str = "") -> str:
    """Text whose control characters, such as a terminal's escape sequences, show as ``\\x1b``; the ``kept`` ones stay."""
    return _CONTROL.sub(lambda match: match[0] if match[0] in kept else _code(match[0]), text)


def quoted(word: object) -> str:
    """A path or another word of a command, such as is printed for the user to copy, quoted for the shell where it must be."""
    return subprocess.list2cmdline([str(word)]) if os.name == "nt" else shlex.quote(str(word))


def _code(letter: str) -> str:
    return f"\\x{ord(letter):02x}" if letter < "\x80" else f"\\u{ord(letter):04x}"
