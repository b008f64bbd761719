"""What this distribution registers."""

from __future__ import annotations

from anomaly_core.specs import CommandSpec

NEW_PLUGIN = CommandSpec(
    target="anomaly_scaffold.commands:new_plugin", summary="Write a complete, tested plugin to start your own from."
)
