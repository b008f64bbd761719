"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, HookSpec

SUMMARY = "Rebuild a run's report, or make a leaderboard of many runs."

HOOKS = HookSpec(target="anomaly_report.hooks:OBSERVERS", summary="draws pictures of maps, and writes the report of a run")
REPORT = CommandSpec(target="anomaly_report.commands:report", summary=SUMMARY)
