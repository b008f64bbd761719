"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

MUSC = ModelSpec(
    target="anomaly_zeroshot.musc.modeler:MuScModeler",
    config="anomaly_zeroshot.musc.config:MuScConfig",
    trainer="memory",
    summary="unlabelled images score one another: what few others have is odd",
    paper="https://arxiv.org/abs/2401.16753",
    code="https://github.com/xrli-U/MuSc",
    presets="anomaly_zeroshot.musc:presets",
)
