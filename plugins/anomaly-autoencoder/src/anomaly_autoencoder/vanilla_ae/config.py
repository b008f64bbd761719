"""The options of VanillaAE. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_autoencoder.config import AutoencoderConfig


@dataclass(kw_only=True)
class VanillaAEConfig(AutoencoderConfig):
    """Section ``model`` of a VanillaAE run."""
