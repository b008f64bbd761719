"""What this distribution registers."""

from __future__ import annotations

from anomaly_core.specs import CommandSpec, HookSpec

SUMMARY = "Rebuild a run's report, or make a leaderboard of many runs."

HOOKS = HookSpec(target="anomaly_report.hooks:OBSERVERS", summary="writes figures/ and report.html when a run is complete")
REPORT = CommandSpec(target="anomaly_report.commands:report", summary=SUMMARY)
