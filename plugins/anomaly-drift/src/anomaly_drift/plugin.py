"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, HookSpec

DRIFT = CommandSpec(
    target="anomaly_drift.commands.drift:drift",
    summary="Say whether images still are what a detector's threshold was set for.",
)
DRIFTING = HookSpec(
    target="anomaly_drift.observing:OBSERVER",
    summary="keeps facts of a run's normal images, and warns `anomaly predict --watch` of drift",
)
