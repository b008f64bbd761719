"""What this distribution registers."""

from __future__ import annotations

from anomaly_core.specs import ModelSpec

PATCHCORE = ModelSpec(
    target="anomaly_patchcore.patchcore.modeler:PatchCoreModeler",
    config="anomaly_patchcore.patchcore.config:PatchCoreConfig",
    trainer="memory",
    summary="distance to a coreset of normal patches",
    paper="https://arxiv.org/abs/2106.08265",
    code="https://github.com/amazon-science/patchcore-inspection",
    presets="anomaly_patchcore.patchcore:presets",
)
