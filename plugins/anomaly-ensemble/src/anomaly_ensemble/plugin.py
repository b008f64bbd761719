"""The commands of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import CommandSpec

ENSEMBLE = CommandSpec(target="anomaly_ensemble.commands:ensemble", summary="Combine finished runs into one detector.")
