"""What this distribution registers; imports nothing heavy."""

from anomaly_core import ModelSpec

GLOBAL_KNN = ModelSpec(
    target="anomaly_global_knn.modeler:GlobalKNNModeler",
    config="anomaly_global_knn.config:GlobalKNNConfig",
    trainer="memory",
    summary="distance of an image's mean feature to its nearest normal neighbours",
    paper="https://arxiv.org/abs/2002.10445",
    presets="anomaly_global_knn:presets",
)
