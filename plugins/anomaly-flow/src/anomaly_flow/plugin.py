"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

FASTFLOW = ModelSpec(
    target="anomaly_flow.fastflow.modeler:FastFlowModeler",
    config="anomaly_flow.fastflow.config:FastFlowConfig",
    trainer="gradient",
    train={"gradient_clip": 1.0},  # a flow's likelihood has rare, steep steps
    summary="2-D normalizing flows on frozen features",
    paper="https://arxiv.org/abs/2111.07677",
    code="https://github.com/gathierry/FastFlow",
    presets="anomaly_flow.fastflow:presets",
)
