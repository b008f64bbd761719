"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import TrainerSpec

MEMORY = TrainerSpec(
    target="anomaly_trainers.memory:MemoryTrainer",
    config="anomaly_trainers.config:MemoryTrainConfig",
    launcher="anomaly_trainers.launch:launch",
    summary="one pass over the normal images, then the memory is built",
)
GRADIENT = TrainerSpec(
    target="anomaly_trainers.gradient:GradientTrainer",
    config="anomaly_trainers.config:GradientTrainConfig",
    launcher="anomaly_trainers.launch:launch",
    summary="epochs of gradient descent; the best epoch on held-out normal images is kept",
)
