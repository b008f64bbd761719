"""UNetVAE: a variational autoencoder with skips that has learnt to remove noise.

Paper: there is no original; see ``vanilla_vae/model.py`` for the latent values and ``unet_ae/model.py`` for skips and noise.
Code: none was used.

Deviations:
- Those of both. The skips are plain maps, not distributions: the divergence is that of the deepest latent values alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_autoencoder.blocks import Grid
from anomaly_autoencoder.networks import Bottleneck, VariationalAutoencoder


class UNetVAE(VariationalAutoencoder):
    """A variational autoencoder with skips; arguments as :class:`~anomaly_autoencoder.unet_ae.model.UNetAE`."""

    def __init__(
        self,
        size: Grid,
        widths: Sequence[int] = (32, 32, 64, 128),
        latent_dim: int = 100,
        bottleneck: Bottleneck = "vector",
        norm: bool = False,
        skips: Sequence[int] = (4, 8),
    ) -> None:
        super().__init__(size, widths, latent_dim, bottleneck, norm, skips)
