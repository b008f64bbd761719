"""VanillaVAEModeler: VanillaVAE as a run drives it. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from anomaly_autoencoder.modeler import VAEModeler
from anomaly_autoencoder.vanilla_vae.config import VanillaVAEConfig
from anomaly_autoencoder.vanilla_vae.model import VanillaVAE
from anomaly_core.backbones import Backbones


class VanillaVAEModeler(VAEModeler):
    """VanillaVAE behind the core's interface; arguments and errors as its base's."""

    def __init__(self, config: VanillaVAEConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.model = VanillaVAE(self.size, config.widths, config.latent_dim, config.bottleneck, config.norm)
