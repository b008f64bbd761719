"""What the autoencoders' modelers share: noise, losses, optimiser and score."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from anomaly_autoencoder.anomaly_map import ReconstructionError
from anomaly_autoencoder.config import AutoencoderConfig, VariationalConfig
from anomaly_autoencoder.corruption import add_blots
from anomaly_autoencoder.functional import WINDOW
from anomaly_autoencoder.losses import AELoss, VAELoss
from anomaly_autoencoder.networks import Autoencoder, VariationalAutoencoder
from anomaly_core.backbones import Backbones
from anomaly_core.base.modeler import GradientModeler
from anomaly_core.errors import ConfigError
from anomaly_core.inputs import InputSpec
from anomaly_core.types import Batch, Prediction


class ReconstructionModeler(GradientModeler):
    """A method that reconstructs images and takes the error for an anomaly.

    Args:
        config: its options.
        backbones: not needed: no weights are loaded.

    Raises:
        ConfigError: images smaller than SSIM's window; no part of the loss or of the map has a weight.
    """

    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
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
    def losses(self, corrupted: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The losses of reconstructing the (B, 3, H, W) images from corrupted ones."""

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(self.corrupted(batch.images), batch.images)

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


class AEModeler(ReconstructionModeler):
    """A plain autoencoder; arguments as :class:`ReconstructionModeler`."""

    model: Autoencoder

    def __init__(self, config: AutoencoderConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.loss = AELoss(config.mse_weight, config.l1_weight, config.ssim_weight)

    def reconstruct(self, images: Tensor) -> Tensor:
        reconstruction: Tensor = self.model(images)
        return reconstruction

    def losses(self, corrupted: Tensor, images: Tensor) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.loss(self.model(corrupted), images)
        return losses


class VAEModeler(ReconstructionModeler):
    """A variational autoencoder; arguments as :class:`ReconstructionModeler`."""

    config: VariationalConfig
    model: VariationalAutoencoder

    def __init__(self, config: VariationalConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.loss = VAELoss(config.mse_weight, config.l1_weight, config.ssim_weight)
        self.beta = config.beta

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Beta rises in equal steps and has its full value from epoch ``beta_warmup_epochs`` on."""
        self.beta = self.config.beta * min(1.0, epoch / max(1, self.config.beta_warmup_epochs))

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """With the full beta in every epoch: else the first ones, whose beta is small, would look the best."""
        current, self.beta = self.beta, self.config.beta
        try:
            return self.training_step(batch)
        finally:
            self.beta = current

    def reconstruct(self, images: Tensor) -> Tensor:
        reconstruction: Tensor = self.model(images)[0]
        return reconstruction

    def losses(self, corrupted: Tensor, images: Tensor) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.loss(*self._reordered(corrupted, images), self.beta)
        return losses

    def _reordered(self, corrupted: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        reconstruction, mean, log_variance = self.model(corrupted)
        return reconstruction, images, mean, log_variance
