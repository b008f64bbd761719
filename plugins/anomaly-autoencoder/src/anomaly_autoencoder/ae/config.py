"""The options of the plain autoencoders. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_autoencoder.config import AutoencoderConfig, SkipConfig


@dataclass(kw_only=True)
class VanillaAEConfig(AutoencoderConfig):
    """Section ``model`` of a run with ``vanilla_ae``."""


@dataclass(kw_only=True)
class UNetAEConfig(SkipConfig):
    """Section ``model`` of a run with ``unet_ae``."""
