"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

STFPM = ModelSpec(
    target="anomaly_stfpm.stfpm.modeler:STFPMModeler",
    config="anomaly_stfpm.stfpm.config:STFPMConfig",
    trainer="gradient",
    summary="a student that learns its teacher's features on normal images",
    paper="https://arxiv.org/abs/2103.04257",
    code="https://github.com/gdwang08/STFPM",
    presets="anomaly_stfpm.stfpm:presets",
)
