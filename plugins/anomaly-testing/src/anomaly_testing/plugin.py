"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec

CHECK = CommandSpec(
    target="anomaly_testing.commands.check:check", summary="Check that a plugin's components keep the contract."
)
NEW_PLUGIN = CommandSpec(
    target="anomaly_testing.commands.new_plugin:new_plugin", summary="Write a new plugin, complete and tested, to start from."
)
