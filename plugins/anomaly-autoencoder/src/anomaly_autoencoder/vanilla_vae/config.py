"""The options of VanillaVAE. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_autoencoder.config import VariationalConfig


@dataclass(kw_only=True)
class VanillaVAEConfig(VariationalConfig):
    """Section ``model`` of a VanillaVAE run."""
