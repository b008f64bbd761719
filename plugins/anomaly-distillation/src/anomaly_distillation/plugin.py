"""The methods and the command of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import CommandSpec, ModelSpec

REVERSE_DISTILLATION = ModelSpec(
    target="anomaly_distillation.reverse_distillation.modeler:ReverseDistillationModeler",
    config="anomaly_distillation.reverse_distillation.config:ReverseDistillationConfig",
    trainer="gradient",
    summary="a decoder that rebuilds its teacher's features from a narrow embedding",
    paper="https://arxiv.org/abs/2201.10703",
    code="https://github.com/hq-deng/RD4AD",
    presets="anomaly_distillation.reverse_distillation:presets",
)

EFFICIENTAD = ModelSpec(
    target="anomaly_distillation.efficientad.modeler:EfficientADModeler",
    config="anomaly_distillation.efficientad.config:EfficientADConfig",
    trainer="gradient",
    summary="a small student, a small teacher and an autoencoder, in milliseconds",
    paper="https://arxiv.org/abs/2303.14535",
    code="https://github.com/nelson1425/EfficientAD",
    presets="anomaly_distillation.efficientad:presets",
)

DISTILL_TEACHER = CommandSpec(
    target="anomaly_distillation.commands:distill_teacher",
    summary="Make a teacher for EfficientAD from your own unlabelled images.",
)
