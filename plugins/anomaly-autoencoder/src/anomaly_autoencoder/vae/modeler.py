"""VAEModeler: vanilla_vae and unet_vae as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from torch import Tensor

from anomaly_autoencoder.losses import Scalars, VAELoss
from anomaly_autoencoder.modeler import ReconstructionModeler
from anomaly_autoencoder.vae.config import UNetVAEConfig, VanillaVAEConfig
from anomaly_autoencoder.vae.model import VariationalAutoencoder
from anomaly_core import Batch, ModelContext


class VAEModeler(ReconstructionModeler):
    """A variational autoencoder behind the core's interface, with its config's skips; arguments and errors as its base's."""

    config: VanillaVAEConfig

    def __init__(self, config: VanillaVAEConfig | UNetVAEConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.loss = VAELoss(config.mse_weight, config.l1_weight, config.ssim_weight)
        self.beta = config.beta
        self.model = VariationalAutoencoder(
            self.size, config.widths, config.latent_dim, config.bottleneck, config.norm, self.skips
        )

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Beta rises in equal steps and has its full value from epoch ``beta_warmup_epochs`` on."""
        self.beta = self.config.beta * min(1.0, epoch / max(1, self.config.beta_warmup_epochs))

    def validation_step(self, batch: Batch) -> Scalars:
        """With the full beta in every epoch: else the first ones, whose beta is small, would look the best."""
        current, self.beta = self.beta, self.config.beta
        try:
            return self.training_step(batch)
        finally:
            self.beta = current

    def reconstruct(self, images: Tensor) -> Tensor:
        reconstruction: Tensor = self.model(images)[0]
        return reconstruction

    def losses(self, corrupted: Tensor, images: Tensor) -> tuple[Scalars, Scalars]:
        reconstruction, mean, log_variance = self.model(corrupted)
        losses: tuple[Scalars, Scalars] = self.loss(reconstruction, images, mean, log_variance, self.beta)
        return losses
