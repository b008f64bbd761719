"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core.specs import ModelSpec

PATCHCORE = ModelSpec(
    target="anomaly_patchcore.patchcore.modeler:PatchCoreModeler",
    config="anomaly_patchcore.patchcore.config:PatchCoreConfig",
    trainer="memory",
    summary="nearest neighbours in a coreset of normal patch features",
    paper="https://arxiv.org/abs/2106.08265",
    code="https://github.com/amazon-science/patchcore-inspection",
    presets="anomaly_patchcore.patchcore:presets",
)
