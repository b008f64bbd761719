"""SuperSimpleNetModeler: frozen extractor, noise and both heads, as a run drives them. Paper, deviations: see ``model.py``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from anomaly_core import ANOMALOUS, Batch, GradientModeler, InputSpec, ModelContext, Prediction
from anomaly_features import ExtractorModeler, FeatureExtractor
from anomaly_simplenet.supersimplenet.config import SuperSimpleNetConfig
from anomaly_simplenet.supersimplenet.losses import losses
from anomaly_simplenet.supersimplenet.model import SuperSimpleNetModel, joined_features, smooth_map
from anomaly_simplenet.supersimplenet.noise import at_features, random_blots, with_noise

HEADS_WEIGHT_DECAY = 1e-5
MIRRORED: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))  # the last turns by 180 degrees


class SuperSimpleNetModeler(ExtractorModeler, GradientModeler):
    """SuperSimpleNet behind the core's interface.

    Args:
        config: its options.
        context: of the run. Adaptor and heads always start at random.

    Raises:
        ConfigError: a backbone or a layer that does not exist.
        BackboneError: the backbone's weights are nowhere to be found.
    """

    config: SuperSimpleNetConfig
    uses_anomalous: ClassVar[bool] = True
    schedule_interval: ClassVar[Literal["epoch", "step"]] = "step"
    feature_mean: Tensor
    feature_std: Tensor
    knows_defects: Tensor

    def __init__(self, config: SuperSimpleNetConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.extractor = FeatureExtractor(config.backbone, config.layers, config.weights(self.context), config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        channels = sum(self.extractor.channels)
        self.register_buffer("feature_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("feature_std", torch.ones(1, channels, 1, 1))
        self.register_buffer("knows_defects", torch.zeros(()))  # 1: it was shown some
        self.model = SuperSimpleNetModel(channels, config.hidden_channels, config.head_channels, config.stop_grad)

    def before_training(self, batches: Iterable[Batch]) -> None:
        """With ``standardize``, mean and standard deviation of each channel over the normal images."""
        if not self.config.standardize:
            return
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            normal = batch.images[batch.labels != ANOMALOUS]
            if not len(normal):
                continue  # a batch of known defects alone
            maps = self.feature_maps(normal)
            features = joined_features(maps, self.config.upscale).double()  # (B, C, h, w)
            count += features[:, 0].numel()
            total, squares = total + features.sum(dim=(0, 2, 3)).cpu(), squares + features.square().sum(dim=(0, 2, 3)).cpu()
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.feature_mean.copy_(mean.view_as(self.feature_mean))
        # a channel that is silent on normal images must not drown the others where it is not
        self.feature_std.copy_(deviation.clamp(min=0.01 * float(deviation.mean())).view_as(self.feature_std))

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and its parts: of normal images, of known defects, and of copies of both with noise on their features."""
        images, masks, labels = batch.images, batch.masks, batch.labels == ANOMALOUS
        if self.training and labels.any():
            self.knows_defects.fill_(1)
        if masks is None:
            masks = torch.zeros_like(images[:, :1], dtype=torch.bool)
        if self.training and self.config.flips:
            images, masks = mirrored(images, masks, labels)
        known = (~labels | batch.has_mask).repeat(2)
        adapted = self.model.feature_adaptor(self.features(images))
        size = (int(adapted.shape[-2]), int(adapted.shape[-1]))
        noise = torch.randn(2 * len(adapted), *adapted.shape[1:], device=adapted.device) * self.config.noise_std
        places = self._places(2 * len(adapted), size).to(adapted.device) & known.view(-1, 1, 1, 1)
        noisy = with_noise(adapted, at_features(masks, size), labels, noise, places, self.config.noise_on_defects)
        map_logits, score_logits = self.model.discriminator(noisy[0])
        with torch.autocast(images.device.type, enabled=False):
            return losses(map_logits.float(), score_logits.float(), *noisy[1:], known)

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        adaptor, heads = self.model.feature_adaptor.parameters(), self.model.discriminator.parameters()
        optimizer = AdamW(
            [
                {"params": list(adaptor), "lr": self.config.adaptor_learning_rate},  # and PyTorch's own weight decay, 0.01
                {"params": list(heads), "lr": self.config.learning_rate, "weight_decay": HEADS_WEIGHT_DECAY},
            ]
        )
        milestones = [max(1, round(self.steps * share)) for share in (0.8, 0.9)]  # of 300 epochs: 240 and 270
        return optimizer, MultiStepLR(optimizer, milestones, gamma=0.4)

    def predict_step(self, images: Tensor) -> Prediction:
        map_logits, scores = self.model(self.features(images))
        maps = smooth_map(map_logits, (int(images.shape[-2]), int(images.shape[-1])))
        if self.config.image_score != "head":
            highest = maps.amax(dim=(1, 2, 3))
            known = self.knows_defects if self.config.image_score == "auto" else 0.0
            scores = known * scores + (1 - known) * highest
        return Prediction(scores, maps)

    def features(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) images -> joined features (B, C, h, w)."""
        features = joined_features(self.feature_maps(images), self.config.upscale)
        return (features - self.feature_mean) / self.feature_std if self.config.standardize else features

    def _places(self, count: int, size: tuple[int, int]) -> Tensor:
        """Where noise is added: bool (count, 1, h, w)."""
        if self.config.noise_places == "perlin":
            return random_blots(count, size, self.config.perlin_threshold)
        return (torch.arange(count) >= count // 2).view(-1, 1, 1, 1).expand(-1, 1, *size)


def mirrored(images: Tensor, masks: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) and masks (B, 1, H, W); the ``chosen`` ones, bool (B,), are mirrored or turned at random."""
    images, masks = images.clone(), masks.clone()
    for i in chosen.nonzero()[:, 0].tolist():
        if axes := MIRRORED[int(torch.randint(len(MIRRORED), ()))]:
            images[i], masks[i] = images[i].flip(axes), masks[i].flip(axes)
    return images, masks
