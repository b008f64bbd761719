"""VanillaVAE: an autoencoder whose latent values are drawn from learnt normal distributions, kept near the standard one.

Paper: there is no original; the nearest is Bergmann et al. (see ``vanilla_ae/model.py``), who compare with a variational
autoencoder; the method is Kingma and Welling, "Auto-Encoding Variational Bayes", 2013, https://arxiv.org/abs/1312.6114
Code: the authors published none.

Deviations:
- Those of ``vanilla_ae/model.py``.
- Bergmann et al. average the errors of several drawn reconstructions; here an image is scored by the distributions' means, so
  that its score is always the same.
- ``beta`` weighs the divergence, and may rise over the first epochs, so that the latent values come into use first.
"""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_autoencoder.blocks import Grid
from anomaly_autoencoder.networks import Bottleneck, VariationalAutoencoder


class VanillaVAE(VariationalAutoencoder):
    """A variational autoencoder without skips; arguments as :class:`~anomaly_autoencoder.vanilla_ae.model.VanillaAE`."""

    def __init__(
        self,
        size: Grid,
        widths: Sequence[int] = (32, 32, 64, 128),
        latent_dim: int = 100,
        bottleneck: Bottleneck = "vector",
        norm: bool = False,
    ) -> None:
        super().__init__(size, widths, latent_dim, bottleneck, norm)
