"""The methods of this distribution. Torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

PATCHCORE = ModelSpec(
    target="anomaly_patchcore.patchcore.modeler:PatchCoreModeler",
    config="anomaly_patchcore.patchcore.config:PatchCoreConfig",
    trainer="memory",
    summary="nearest neighbours in a coreset of normal patch features",
    paper="https://arxiv.org/abs/2106.08265",
    code="https://github.com/amazon-science/patchcore-inspection",
    presets="anomaly_patchcore.patchcore:presets",
)

PADIM = ModelSpec(
    target="anomaly_patchcore.padim.modeler:PaDiMModeler",
    config="anomaly_patchcore.padim.config:PaDiMConfig",
    trainer="memory",
    summary="a Gaussian of normal features at every location",
    paper="https://arxiv.org/abs/2011.08785",
    code="https://github.com/xiahaifeng1995/PaDiM-Anomaly-Detection-Localization-master",
    presets="anomaly_patchcore.padim:presets",
)
