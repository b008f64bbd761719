"""The method and the command of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import CommandSpec, ModelSpec

ENSEMBLE = ModelSpec(
    target="anomaly_ensemble.ensemble.modeler:EnsembleModeler",
    config="anomaly_ensemble.ensemble.config:EnsembleConfig",
    trainer="memory",
    summary="several methods as one: their scores and maps on one scale, averaged",
    presets="anomaly_ensemble.ensemble:presets",
)
ENSEMBLE_COMMAND = CommandSpec(target="anomaly_ensemble.commands:ensemble", summary="Combine finished runs into one detector.")
