"""STFPMModeler: teacher, student and SGD, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from anomaly_core import Batch, GradientModeler, InputSpec, ModelContext, Prediction, pair
from anomaly_features import ExtractorModeler, FeatureExtractor, FrozenNetwork
from anomaly_stfpm.stfpm.config import STFPMConfig
from anomaly_stfpm.stfpm.model import STFPMModel, level_losses


class STFPMModeler(ExtractorModeler, GradientModeler):
    """STFPM behind the core's interface.

    Args:
        config: its options.
        context: of the run. The student always starts at random.

    Raises:
        ConfigError: a backbone or a layer that does not exist.
        BackboneError: the teacher's weights are nowhere to be found.
    """

    config: STFPMConfig

    def __init__(self, config: STFPMConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        teacher = FeatureExtractor(config.backbone, config.layers, config.weights(self.context), config)
        student = FeatureExtractor(config.backbone, config.layers, frozen=False)
        _start_every_norm_at_one(student)
        self.input_spec = InputSpec.from_config(config, teacher.mean, teacher.std)
        self.model = STFPMModel(teacher, student, pair(config.map_size))

    @property
    def extractor(self) -> FrozenNetwork:  # type: ignore[override]  # the teacher is its network's part
        """The teacher."""
        return cast(FrozenNetwork, self.model.teacher)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, and ``loss_level0``, ... that it is the sum of."""
        levels = level_losses(self.model(batch.images))
        return {"loss": torch.stack(levels).sum(), **{f"loss_level{i}": level for i, level in enumerate(levels)}}

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        _freeze_what_no_level_needs(self.model.student)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        config = self.config
        return SGD(trained, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay), None

    def predict_step(self, images: Tensor) -> Prediction:
        scores, maps = self.model.score(self.model(images), (images.shape[-2], images.shape[-1]))
        return Prediction(scores, maps)


def _start_every_norm_at_one(student: nn.Module) -> None:
    """Timm starts the last norm of each residual block at 0, so that the block does nothing at first; the original does not."""
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)


def _freeze_what_no_level_needs(student: nn.Module) -> None:
    """Some of timm's networks keep blocks behind the last chosen layer: these get no gradient, which DDP takes for a fault."""
    parameters = list(student.parameters())
    training = student.training
    student.eval()  # so that no running mean moves
    probe = torch.zeros(1, 3, 64, 64, device=parameters[0].device)
    gradients = torch.autograd.grad(sum(f.sum() for f in student(probe)), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    student.train(training)
