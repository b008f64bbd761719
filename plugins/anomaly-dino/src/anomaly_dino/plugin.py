"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

SUBSPACE = ModelSpec(
    target="anomaly_dino.subspace.modeler:SubspaceModeler",
    config="anomaly_dino.subspace.config:SubspaceConfig",
    trainer="memory",
    summary="the residual of patch features beside the subspace of normal ones",
    paper="https://arxiv.org/abs/2602.23013",
    code="https://github.com/CLendering/SubspaceAD",
    presets="anomaly_dino.subspace:presets",
)

ANOMALYDINO = ModelSpec(
    target="anomaly_dino.anomalydino.modeler:AnomalyDINOModeler",
    config="anomaly_dino.anomalydino.config:AnomalyDINOConfig",
    trainer="memory",
    summary="cosine distance to the nearest patch of a few normal images",
    paper="https://arxiv.org/abs/2405.14529",
    code="https://github.com/dammsi/AnomalyDINO",
    presets="anomaly_dino.anomalydino:presets",
)

DINOMALY = ModelSpec(
    target="anomaly_dino.dinomaly.modeler:DinomalyModeler",
    config="anomaly_dino.dinomaly.config:DinomalyConfig",
    trainer="gradient",
    summary="a decoder that rebuilds a transformer's features through a noisy bottleneck",
    paper="https://arxiv.org/abs/2405.14325",
    code="https://github.com/guojiajeremy/Dinomaly",
    presets="anomaly_dino.dinomaly:presets",
)
