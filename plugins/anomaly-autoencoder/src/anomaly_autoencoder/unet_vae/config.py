"""The options of UNetVAE. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_autoencoder.config import SkipConfig, VariationalConfig


@dataclass(kw_only=True)
class UNetVAEConfig(SkipConfig, VariationalConfig):
    """Section ``model`` of a UNetVAE run."""
