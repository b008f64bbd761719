"""The smallest modelers there are: a memory, a gradient method and one of neither kind, for checks of trainers and hooks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from anomaly_core import (
    BaseModeler,
    Batch,
    GradientModeler,
    InputSpec,
    MemoryModeler,
    ModelConfig,
    ModelContext,
    ModelSpec,
    Prediction,
)


class MemoryProbe(MemoryModeler):
    """The distance to the mean image's colour."""

    mean: Tensor

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self._seen: list[Tensor] = []

    def collect(self, images: Tensor) -> None:
        self._seen.append(images.mean(dim=(2, 3)))

    def build(self) -> None:
        self.mean = torch.cat(self._seen).mean(dim=0).view(3, 1, 1).clone()
        self._seen.clear()

    def predict_step(self, images: Tensor) -> Prediction:
        maps = (images - self.mean).square().mean(dim=1, keepdim=True)
        return Prediction(maps.mean(dim=(1, 2, 3)), maps)


class GradientProbe(GradientModeler):
    """One learnt colour; it notes which passes a trainer makes, and over how many images.

    Attributes:
        passes: ``before_training``, ``training`` and ``after_training`` in the order in which they came, each with a count.
    """

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.colour = nn.Parameter(torch.rand(3, 1, 1))
        self.passes: list[tuple[str, int]] = []

    def before_training(self, batches: Iterable[Batch]) -> None:
        self.passes.append(("before_training", sum(len(batch) for batch in batches)))

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        if torch.is_grad_enabled() and (not self.passes or self.passes[-1][0] != "training"):
            self.passes.append(("training", len(batch)))
        bright = (batch.images > 0.5).float().mean()
        return {"loss": (batch.images - self.colour).square().mean(), "bright": bright}

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, None]:
        return SGD(self.parameters(), lr=0.5), None

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        return {"loss": means["loss"], "percent": 100 * means["bright"]}

    def after_training(self, held_out: Iterable[Batch]) -> None:
        self.passes.append(("after_training", sum(len(batch) for batch in held_out)))

    def predict_step(self, images: Tensor) -> Prediction:
        maps = (images - self.colour).square().mean(dim=1, keepdim=True)
        return Prediction(maps.mean(dim=(1, 2, 3)), maps)


class StrangeProbe(BaseModeler):
    """A method of neither kind, which no trainer but its own could fit."""

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(images.mean(dim=(1, 2, 3)))


PROBES: dict[str, type[BaseModeler]] = {probe.__name__: probe for probe in (MemoryProbe, GradientProbe)}
PROBE = ModelSpec(
    target="anomaly_testing.probes:MemoryProbe",
    config="anomaly_core:ModelConfig",
    trainer="memory",
    summary="the conformance kit's own small method",
)
