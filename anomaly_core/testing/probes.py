"""The smallest modelers there are, one of each kind, for checks of trainers and hooks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from anomaly_core.backbones import Backbones
from anomaly_core.base.modeler import BaseModeler, ClassificationModeler, FlowModeler, GradientModeler, MemoryModeler
from anomaly_core.inputs import InputSpec
from anomaly_core.options import ModelConfig
from anomaly_core.specs import ModelSpec
from anomaly_core.types import Batch, Prediction


class MemoryProbe(MemoryModeler):
    """The distance to the mean image's colour."""

    mean: Tensor

    def __init__(self, config: ModelConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
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
    """One learnt colour."""

    def __init__(self, config: ModelConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.input_spec = InputSpec.from_config(config)
        self.colour = nn.Parameter(torch.rand(3, 1, 1))

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (batch.images - self.colour).square().mean()}

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, None]:
        return SGD(self.parameters(), lr=0.5), None

    def predict_step(self, images: Tensor) -> Prediction:
        maps = (images - self.colour).square().mean(dim=1, keepdim=True)
        return Prediction(maps.mean(dim=(1, 2, 3)), maps)


class FlowProbe(GradientProbe, FlowModeler):
    """A shift: the flow whose log-determinant is 0."""

    @property
    def dimensions(self) -> int:
        height, width = self.input_spec.output_size
        return 3 * height * width


class ClassificationProbe(ClassificationModeler):
    """A threshold on brightness, learnt from white squares."""

    def __init__(self, config: ModelConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.input_spec = InputSpec.from_config(config)
        self.head = nn.Conv2d(3, 1, 1)

    def synthesize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        masks = torch.zeros_like(images[:, :1])
        masks[:, :, 8:24, 8:24] = 1
        return torch.where(masks > 0, torch.ones_like(images), images), masks

    def supervised_step(self, images: Tensor, augmented: Tensor, masks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.head(augmented)
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, masks)}, logits.sigmoid()

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, None]:
        return SGD(self.parameters(), lr=0.5), None

    def predict_step(self, images: Tensor) -> Prediction:
        maps = self.head(images)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)


PROBES: dict[str, type[BaseModeler]] = {
    probe.__name__: probe for probe in (MemoryProbe, GradientProbe, FlowProbe, ClassificationProbe)
}
PROBE = ModelSpec(
    target="anomaly_core.testing.probes:MemoryProbe",
    config="anomaly_core.options:ModelConfig",
    trainer="memory",
    summary="the conformance kit's own small method",
)
