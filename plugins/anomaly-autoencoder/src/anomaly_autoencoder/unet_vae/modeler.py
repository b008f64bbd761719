"""UNetVAEModeler: UNetVAE as a run drives it. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from anomaly_autoencoder.modeler import VAEModeler
from anomaly_autoencoder.unet_vae.config import UNetVAEConfig
from anomaly_autoencoder.unet_vae.model import UNetVAE
from anomaly_core.backbones import Backbones


class UNetVAEModeler(VAEModeler):
    """UNetVAE behind the core's interface; arguments and errors as its base's."""

    def __init__(self, config: UNetVAEConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.model = UNetVAE(self.size, config.widths, config.latent_dim, config.bottleneck, config.norm, config.skips)
