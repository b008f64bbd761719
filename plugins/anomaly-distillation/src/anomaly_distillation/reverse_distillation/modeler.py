"""ReverseDistillationModeler: encoder, bottleneck, decoder and Adam, as a run drives them. Paper: see ``model.py``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from anomaly_core import Batch, ConfigError, GradientModeler, InputSpec, ModelContext, Prediction
from anomaly_distillation.reverse_distillation.config import ReverseDistillationConfig
from anomaly_distillation.reverse_distillation.model import (
    LEVELS,
    ReverseDistillationModel,
    anomaly_map,
    level_losses,
    level_maps,
)
from anomaly_features import ExtractorModeler, FeatureExtractor

BETAS = (0.5, 0.999)


class ReverseDistillationModeler(ExtractorModeler, GradientModeler):
    """Reverse distillation behind the core's interface.

    Args:
        config: its options.
        context: of the run. Bottleneck and decoder always start at random.

    Raises:
        ConfigError: a backbone or a layer that does not exist; levels that do not halve; an image size that is no multiple.
        BackboneError: the encoder's weights are nowhere to be found.
    """

    config: ReverseDistillationConfig

    def __init__(self, config: ReverseDistillationConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.extractor: FeatureExtractor = FeatureExtractor(
            config.backbone, config.layers, config.weights(self.context), config
        )
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        _require_pyramid(self.extractor, self.input_spec.output_size)
        self.model = ReverseDistillationModel(
            self.extractor.channels, config.decoder_blocks, config.bottleneck_blocks, config.block, config.block_width
        )

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, and ``loss_level0``, ... that it is the sum of."""
        encoded = self.feature_maps(batch.images)
        levels = level_losses(encoded, self.model(encoded), self.config.loss)
        if len(levels) == 1:
            return {"loss": levels[0]}
        return {"loss": torch.stack(levels).sum(), **{f"loss_level{i}": level for i, level in enumerate(levels)}}

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        return Adam(self.model.parameters(), lr=self.config.learning_rate, betas=BETAS), None

    def predict_step(self, images: Tensor) -> Prediction:
        encoded = self.feature_maps(images)
        levels = level_maps(encoded, self.model(encoded), (images.shape[-2], images.shape[-1]))
        maps = anomaly_map(levels, self.config.combine, self.config.sigma)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)


def _require_pyramid(extractor: FeatureExtractor, size: tuple[int, int]) -> None:
    """ConfigError unless each level has half the size of the one before, at images of (H, W) = ``size`` too."""
    first = extractor.strides[0]
    if extractor.strides != [first * 2**level for level in range(LEVELS)]:
        raise ConfigError(
            f"model.layers: the levels' strides are {', '.join(map(str, extractor.strides))} pixels, and each must be twice "
            "the one before, as 4, 8, 16: the decoder doubles its maps. Choose other layers of the backbone."
        )
    whole = first * 2**LEVELS  # the embedding is half of the smallest level
    if any(side % whole for side in size):
        near = " and ".join(str(max(1, round(side / whole)) * whole) for side in size)
        raise ConfigError(
            f"images of {size[0]}x{size[1]} pixels cannot be halved {LEVELS} times after a stride of {first} and doubled back: "
            f"height and width must be multiples of {whole}, such as {near}. Set model.image_size, or model.center_crop where "
            "there is one."
        )
