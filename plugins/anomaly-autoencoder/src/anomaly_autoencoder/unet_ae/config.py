"""The options of UNetAE. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_autoencoder.config import SkipConfig


@dataclass(kw_only=True)
class UNetAEConfig(SkipConfig):
    """Section ``model`` of a UNetAE run."""
