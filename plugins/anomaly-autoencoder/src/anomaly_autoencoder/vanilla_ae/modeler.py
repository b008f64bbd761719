"""VanillaAEModeler: VanillaAE as a run drives it. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from anomaly_autoencoder.modeler import AEModeler
from anomaly_autoencoder.vanilla_ae.config import VanillaAEConfig
from anomaly_autoencoder.vanilla_ae.model import VanillaAE
from anomaly_core.backbones import Backbones


class VanillaAEModeler(AEModeler):
    """VanillaAE behind the core's interface; arguments and errors as its base's."""

    def __init__(self, config: VanillaAEConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.model = VanillaAE(self.size, config.widths, config.latent_dim, config.bottleneck, config.norm)
