"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec

SERVE = CommandSpec(
    target="anomaly_serve.commands.serve:serve",
    summary="Serve detectors over HTTP, with a page to teach, set and inspect.",
)
HISTORY = CommandSpec(
    target="anomaly_serve.commands.history:history",
    summary="Export, back up, restore and check the history of a service.",
)
