"""DinomalyModeler: a frozen transformer and Dinomaly's decoder, as a run drives them. Paper, deviations: see ``model.py``."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from anomaly_core import Batch, GradientModeler, InputSpec, ModelContext, Prediction, pair
from anomaly_dino.dinomaly.config import DinomalyConfig
from anomaly_dino.dinomaly.encoder import GroupedTokens
from anomaly_dino.dinomaly.model import DinomalyModel, loss
from anomaly_dino.dinomaly.training import StableAdamW, rate
from anomaly_features import ExtractorModeler

WARM_UP = 100  # steps
LAST = 0.1  # of the learning rate, at the end


class DinomalyModeler(ExtractorModeler, GradientModeler):
    """Dinomaly behind the core's interface.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: a backbone that is no transformer, a block that it does not have, blocks that are no whole groups.
        BackboneError: no source has the weights.
    """

    config: DinomalyConfig
    extractor: GroupedTokens
    schedule_interval: ClassVar[Literal["epoch", "step"]] = "step"
    iteration: Tensor

    def __init__(self, config: DinomalyConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        size = InputSpec.from_config(config).output_size
        weights = config.weights(self.context)
        self.extractor = GroupedTokens(config.backbone, config.layers, size, config.groups, weights, config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        channels, height, width = self.extractor.shapes[0]
        self.model = DinomalyModel(
            channels,
            self.extractor.heads,
            len(config.layers),
            config.groups,
            self.extractor.prefix,
            (height, width),
            config.dropout,
            None if config.map_size is None else pair(config.map_size),
        )
        self.register_buffer("iteration", torch.tensor(0))  # training steps so far

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, and the share of points whose gradient is weakened."""
        easy = (1 - self.config.hardest) * min(1.0, int(self.iteration) / self.config.mining_steps)
        self.iteration += 1
        encoded, decoded = self.model(self.feature_maps(batch.images))
        value = loss(encoded, decoded, easy, self.config.easy_gradient)
        return {"loss": value, "easy_share": value.new_tensor(easy)}

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, without dropout."""
        return {"loss": loss(*self.model(self.feature_maps(batch.images)))}

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        optimizer = StableAdamW(self.model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        steps = max(1, self.steps or epochs)
        share = partial(rate, steps=steps, warm_up=min(WARM_UP, max(1, steps // 10)), last=LAST)
        return optimizer, LambdaLR(optimizer, share)

    def predict_step(self, images: Tensor) -> Prediction:
        encoded, decoded = self.model(self.feature_maps(images))
        return Prediction(*self.model.score(encoded, decoded, (images.shape[-2], images.shape[-1])))
