"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec

DRIFT = CommandSpec(
    target="anomaly_drift.commands.drift:drift",
    summary="Say whether images still are what a detector's threshold was set for.",
)
