"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

DRAEM = ModelSpec(
    target="anomaly_draem.draem.modeler:DRAEMModeler",
    config="anomaly_draem.draem.config:DRAEMConfig",
    trainer="gradient",
    summary="reconstruction and segmentation, learnt from synthetic anomalies",
    paper="https://arxiv.org/abs/2108.07610",
    code="https://github.com/VitjanZ/DRAEM",
    presets="anomaly_draem.draem:presets",
)
