"""ReconstructionModeler: what both kinds of autoencoder share: noise, optimiser and score."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from anomaly_autoencoder.anomaly_map import ReconstructionError
from anomaly_autoencoder.config import AutoencoderConfig, SkipConfig
from anomaly_autoencoder.corruption import add_blots
from anomaly_autoencoder.functional import WINDOW
from anomaly_autoencoder.losses import Scalars
from anomaly_autoencoder.network import Network
from anomaly_core import Batch, ConfigError, GradientModeler, InputSpec, ModelContext, Prediction


class ReconstructionModeler(GradientModeler):
    """A method that reconstructs images and takes the error for an anomaly.

    Args:
        config: its options.
        context: of the run; no weights are loaded.

    Raises:
        ConfigError: images smaller than SSIM's window; no part of the loss or of the map has a weight.
    """

    config: AutoencoderConfig
    model: Network

    def __init__(self, config: AutoencoderConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.size = self.input_spec.output_size
        if min(self.size) < WINDOW:
            raise ConfigError(
                f"images of {self.size[0]}x{self.size[1]} are smaller than SSIM's window of {WINDOW}x{WINDOW}. "
                "Enlarge model.image_size."
            )
        if not config.mse_weight + config.l1_weight + config.ssim_weight:
            raise ConfigError("nothing would be learnt: set model.mse_weight, model.l1_weight or model.ssim_weight above 0.")
        if not config.map_error_weight + config.map_ssim_weight:
            raise ConfigError("the map would be empty: set model.map_error_weight or model.map_ssim_weight above 0.")
        self.error = ReconstructionError(
            config.map_error, config.map_error_weight, config.map_ssim_weight, config.sigma, config.image_score
        )

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1] -> reconstructions, about [0, 1] but not cut to it."""

    @abstractmethod
    def losses(self, corrupted: Tensor, images: Tensor) -> tuple[Scalars, Scalars]:
        """The losses of reconstructing the (B, 3, H, W) images from corrupted ones, and figures that are only logged."""

    def training_step(self, batch: Batch) -> Scalars:
        losses, figures = self.losses(self.corrupted(batch.images), batch.images)
        return {**losses, **figures}

    @property
    def skips(self) -> tuple[int, ...]:
        """Strides whose maps pass the latent values by; none for a method without skips."""
        return self.config.skips if isinstance(self.config, SkipConfig) else ()

    def corrupted(self, images: Tensor) -> Tensor:
        """The images, blotted where the config asks for it."""
        config = self.config
        if not config.noise_strength:
            return images
        return add_blots(images, config.noise_strength, config.noise_cells, config.noise_share)

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        optimizer = Adam(self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        return optimizer, CosineAnnealingLR(optimizer, epochs) if self.config.schedule == "cosine" else None

    def predict_step(self, images: Tensor) -> Prediction:
        reconstruction = self.reconstruct(images).clamp(0, 1)
        scores, maps = self.error(reconstruction, images)
        return Prediction(scores, maps, reconstruction)
