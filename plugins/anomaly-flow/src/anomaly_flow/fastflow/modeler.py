"""FastFlowModeler: frozen features, a flow for each, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from anomaly_core import Batch, ConfigError, GradientModeler, InputSpec, ModelContext, Prediction
from anomaly_features import ExtractorModeler, FeatureExtractor, TransformerExtractor, is_transformer
from anomaly_flow.fastflow.config import FastFlowConfig
from anomaly_flow.fastflow.model import FastFlowModel, Shape


class FastFlowModeler(ExtractorModeler, GradientModeler):
    """FastFlow behind the core's interface.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: a backbone or a layer that does not exist; images that are no whole number of a transformer's patches.
        BackboneError: the weights are nowhere to be found.
    """

    config: FastFlowConfig
    extractor: FeatureExtractor | TransformerExtractor

    def __init__(self, config: FastFlowConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        size = InputSpec.from_config(config).output_size
        transformer, weights = is_transformer(config.backbone), config.weights(self.context)
        if transformer and not config.trainable_norm and weights is not None:  # None: of a finished run
            raise ConfigError(
                f"model.trainable_norm=false would be ignored: the transformer {config.backbone!r} has a frozen norm. "
                "Leave it out."
            )
        if transformer:
            self.extractor = TransformerExtractor(config.backbone, config.layers, size, weights, config)
        else:
            self.extractor = FeatureExtractor(config.backbone, config.layers, weights, config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        self._shapes = self._feature_shapes(size)
        self.model = FastFlowModel(
            self._shapes,
            config.flow_steps,
            config.hidden_ratio,
            config.conv3x3_only,
            config.clamp,
            norm=not transformer,
            trainable_norm=config.trainable_norm,
        )

    @property
    def dimensions(self) -> int:
        """How many latent values an image has, all levels together."""
        return sum(channels * height * width for channels, height, width in self._shapes)

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """``nll`` in nats an image and ``bits_per_dim`` beside the loss, which leaves the Gaussian's constant out.

        NLL = loss + D/2 ln(2 pi), and bits per dimension = NLL / (D ln 2), with D the latent values of an image.
        """
        nll = means["loss"] + 0.5 * self.dimensions * math.log(2 * math.pi)
        return {**means, "nll": nll, "bits_per_dim": nll / (self.dimensions * math.log(2))}

    def features(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) in [0, 1] -> (B, C, h, w) maps, one a level. Frozen: an image's are the same in every epoch."""
        with torch.no_grad():
            features: list[Tensor] = self.extractor(images)
        return features

    def flow_step(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """The loss of the features of a batch: everything that training changes comes behind them."""
        return {"loss": self.model.loss(*self.model(features))}

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        return self.flow_step(self.features(batch.images))

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return Adam(trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay), None

    def predict_step(self, images: Tensor) -> Prediction:
        latents, _ = self.model(self.features(images))
        maps = self.model.anomaly_maps(latents, (images.shape[-2], images.shape[-1]))
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)

    def _feature_shapes(self, size: tuple[int, int]) -> list[Shape]:
        """(C, h, w) of each level: networks round the sides of their maps in their own ways, so that one is asked."""
        return [(maps.shape[1], maps.shape[2], maps.shape[3]) for maps in self.extractor.features(torch.zeros(1, 3, *size))]
