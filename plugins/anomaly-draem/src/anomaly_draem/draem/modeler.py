"""DRAEMModeler: both networks, their losses and the synthesis, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

import warnings
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from anomaly_core import Batch, ConfigError, GradientModeler, InputSpec, ModelContext, Prediction
from anomaly_draem.draem.config import DRAEMConfig
from anomaly_draem.draem.losses import focal_loss, ssim_loss
from anomaly_draem.draem.model import DRAEMModel
from anomaly_draem.geometry import rotate
from anomaly_draem.synthesis import Synthesis
from anomaly_trainers import PictureFolder

RIGHT_ANGLE = 90.0
OTHERWISE = ", or leave it out: anomalies are then made of procedural textures and of the training images"
SHARES = ("true_positives", "false_positives", "false_negatives")


class DRAEMModeler(GradientModeler):
    """DRAEM behind the core's interface.

    Args:
        config: its options.
        context: of the run; the folder of textures is looked for where it is fitted, not where a saved state follows.

    Raises:
        ConfigError: an even score window, images too small, a folder of textures that does not exist.
        DataError: a folder of textures without images.
    """

    config: DRAEMConfig

    def __init__(self, config: DRAEMConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        if config.score_window % 2 == 0:
            raise ConfigError(f"model.score_window={config.score_window} is even: a window needs a centre. Choose 1, 3, 5, ...")
        self.input_spec = InputSpec.from_config(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        height, width = self.input_spec.output_size
        if min(height, width) < 32 or height // 32 * (width // 32) < 2:
            raise ConfigError(
                f"images of {height}x{width} pixels are too small for DRAEM, which halves them five times: set "
                "model.image_size to 64 or more."
            )
        self.model = DRAEMModel(config.reconstructive_width, config.discriminative_width)
        if self.context.pretrained and self.synthesis.textures is None:
            warnings.warn(
                "draem: model.textures names no folder, so that synthetic anomalies are made of procedural textures and of the "
                "training images themselves. The paper takes them from the Describable Textures Dataset (DTD): where it is at "
                "hand, set model.textures=DIR.",
                stacklevel=2,
            )

    @cached_property
    def synthesis(self) -> Synthesis:
        """What makes the anomalies; the folder of textures is opened with it."""
        folder = self.config.textures
        return Synthesis(
            None if folder is None else PictureFolder(folder, "model.textures", self.input_spec.output_size, OTHERWISE),
            self.config.self_share,
            self.config.anomaly_probability,
            self.config.max_transparency,
        )

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """The losses, and shares of pixels that are only logged, as the F1 that :meth:`summarize` makes of them."""
        images = self.turned(batch.images)
        augmented, masks = self.synthesize(images)
        losses, probability = self.supervised_step(images, augmented, masks)
        return {**losses, **pixel_shares(probability, masks)}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """``synthetic_pixel_f1``, of the synthetic pixels at probability 0.5, in place of the shares that make it."""
        hits, extra, missed = (means[name] for name in SHARES)
        both = 2 * hits + extra + missed
        logged = {name: mean for name, mean in means.items() if name not in SHARES}
        return {**logged, "synthetic_pixel_f1": 2 * hits / both if both else 0.0}

    def turned(self, images: Tensor) -> Tensor:
        """The images, some of them turned: a turned image is painted, and is what the network must give back."""
        chosen = torch.rand(len(images)) < self.config.rotation_probability
        degrees = torch.where(chosen, (2 * torch.rand(len(images)) - 1) * RIGHT_ANGLE, 0.0)
        return rotate(images, degrees, mirror=self.config.rotation_fill == "mirror")

    def synthesize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (B, 3, H, W) normal images -> (images, some with anomalies; float32 (B, 1, H, W) masks of 0 and 1)."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self.synthesis(images.float())

    def supervised_step(self, images: Tensor, augmented: Tensor, masks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What is minimised, ``loss`` and its parts, and the probability (B, 1, H, W) of each pixel to be anomalous."""
        reconstruction, logits = self.model(augmented)
        with torch.autocast(images.device.type, enabled=False):
            reconstruction, probability = reconstruction.float(), logits.float().softmax(dim=1)[:, 1:]
            losses = {
                "l2_loss": F.mse_loss(reconstruction, images),
                "ssim_loss": ssim_loss(reconstruction, images),
                "focal_loss": focal_loss(probability, masks),
            }
        return {"loss": torch.stack([*losses.values()]).sum(), **losses}, probability

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        optimizer = Adam(self.parameters(), lr=self.config.learning_rate)
        milestones = [max(1, round(epochs * share)) for share in (0.8, 0.9)]
        return optimizer, MultiStepLR(optimizer, milestones, gamma=0.2)

    def predict_step(self, images: Tensor) -> Prediction:
        reconstruction, logits = self.model(images)
        maps = logits.softmax(dim=1)[:, 1:]  # the map is not smoothed, the score is the largest of a smoothed one
        window = self.config.score_window
        scores = F.avg_pool2d(maps, window, stride=1, padding=window // 2).amax(dim=(1, 2, 3))
        return Prediction(scores, maps, reconstruction.clamp(0, 1))


def pixel_shares(probability: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Scalars without a gradient, named as :data:`SHARES`: of all pixels, (B, 1, H, W) each, at probability 0.5."""
    verdict, truth = probability.detach() > 0.5, masks > 0.5
    shares = (verdict & truth, verdict & ~truth, ~verdict & truth)
    return {name: share.float().mean() for name, share in zip(SHARES, shares, strict=True)}
