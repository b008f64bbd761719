"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec


def _command(name: str, summary: str) -> CommandSpec:
    return CommandSpec(target=f"anomaly_doctor.{name}:{name}", summary=summary)


LIST_PLUGINS = _command("list_plugins", "Show what is installed, and from where.")
SHOW = _command("show", "Show every option of a model, data set or trainer.")
DOCTOR = _command("doctor", "Say what is installed and works, and what is broken, for a bug report.")
COMPLETION = _command("completion", "Print the shell's completion script.")
