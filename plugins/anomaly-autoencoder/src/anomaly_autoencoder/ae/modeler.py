"""AEModeler: vanilla_ae and unet_ae as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from torch import Tensor

from anomaly_autoencoder.ae.config import UNetAEConfig, VanillaAEConfig
from anomaly_autoencoder.ae.model import Autoencoder
from anomaly_autoencoder.losses import AELoss, Scalars
from anomaly_autoencoder.modeler import ReconstructionModeler
from anomaly_core import ModelContext


class AEModeler(ReconstructionModeler):
    """A plain autoencoder behind the core's interface, with its config's skips; arguments and errors as its base's."""

    def __init__(self, config: VanillaAEConfig | UNetAEConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.loss = AELoss(config.mse_weight, config.l1_weight, config.ssim_weight)
        self.model = Autoencoder(self.size, config.widths, config.latent_dim, config.bottleneck, config.norm, self.skips)

    def reconstruct(self, images: Tensor) -> Tensor:
        reconstruction: Tensor = self.model(images)
        return reconstruction

    def losses(self, corrupted: Tensor, images: Tensor) -> tuple[Scalars, Scalars]:
        losses: tuple[Scalars, Scalars] = self.loss(self.model(corrupted), images)
        return losses
