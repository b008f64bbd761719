"""UNetAEModeler: UNetAE as a run drives it. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from anomaly_autoencoder.modeler import AEModeler
from anomaly_autoencoder.unet_ae.config import UNetAEConfig
from anomaly_autoencoder.unet_ae.model import UNetAE
from anomaly_core.backbones import Backbones


class UNetAEModeler(AEModeler):
    """UNetAE behind the core's interface; arguments and errors as its base's."""

    def __init__(self, config: UNetAEConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        self.model = UNetAE(self.size, config.widths, config.latent_dim, config.bottleneck, config.norm, config.skips)
