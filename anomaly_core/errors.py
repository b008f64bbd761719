"""The one exception family: every message says what happened, where, and the next step."""

from __future__ import annotations


class AnomalyError(Exception):
    """An error that the user can fix. The command line prints it as one paragraph, without a traceback."""

    exit_code = 1


class ConfigError(AnomalyError):
    """An option, a value or a name that does not exist: a usage error."""

    exit_code = 2


class PluginError(AnomalyError):
    """A component that is missing, broken, blocked or claimed by two distributions."""

    exit_code = 2


class MissingLibrary(PluginError):
    """A working component that needs a library that is not installed; the message gives the install command."""


class DataError(AnomalyError):
    """Images, masks or folders that cannot be used."""


class RunError(AnomalyError):
    """A run's folder that is missing, incomplete or not writable."""


class UndefinedMetric(AnomalyError):
    """A metric that has no value on this data; the message is the reason."""
