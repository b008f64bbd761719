"""The core's own components, registered through the same entry points as any plugin's."""

from __future__ import annotations

from anomaly_core.specs import CommandSpec


def _command(name: str, summary: str) -> CommandSpec:
    return CommandSpec(target=f"anomaly_core.cli.{name}:{name}", summary=summary)


RUN = _command("run", "Fit, calibrate and test a detector.")
LIST_PLUGINS = _command("list_plugins", "Show what is installed, and from where.")
SHOW = _command("show", "Show every option of a model, data set or trainer.")
COMPLETION = _command("completion", "Print the shell's completion script.")
