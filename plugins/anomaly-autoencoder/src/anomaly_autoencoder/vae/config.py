"""The options of the variational autoencoders. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_autoencoder.config import AutoencoderConfig, SkipConfig
from anomaly_core import Needs


@dataclass(kw_only=True)
class VanillaVAEConfig(AutoencoderConfig):
    """Section ``model`` of a run with ``vanilla_vae``."""

    beta: Annotated[
        float, Field(ge=0, description="weight of the latent values' divergence, in nats for each value of the image")
    ] = 1.0
    beta_warmup_epochs: Annotated[int, Field(ge=0, description="epochs over which beta rises from 0"), Needs("model.beta")] = 0


@dataclass(kw_only=True)
class UNetVAEConfig(SkipConfig, VanillaVAEConfig):
    """Section ``model`` of a run with ``unet_vae``."""
