"""VariationalAutoencoder: latent values are drawn from learnt normal distributions, kept near the standard one.

Paper: there is no original. The nearest for ``vanilla_vae`` is Bergmann et al. (see ``ae/model.py``), who compare with a
variational autoencoder; the method is Kingma and Welling, "Auto-Encoding Variational Bayes", 2013,
https://arxiv.org/abs/1312.6114. For the skips and the noise of ``unet_vae`` see ``ae/model.py``.
Code: the authors published none; none was used.

Deviations:
- Those of ``ae/model.py``.
- Bergmann et al. average the errors of several drawn reconstructions; here an image is scored by the distributions' means, so
  that its score is always the same.
- ``beta`` weighs the divergence, and may rise over the first epochs, so that the latent values come into use first.
- Skips are plain maps, not distributions: the divergence is that of the deepest latent values alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anomaly_autoencoder.blocks import Grid
from anomaly_autoencoder.network import Bottleneck, Network

LOG_VARIANCES = (-10.0, 10.0)  # beyond them, exp leaves what float16 can hold


class VariationalAutoencoder(Network):
    """A network whose latent values are normal distributions: drawn from in train mode, their means in eval mode.

    Arguments as :class:`~anomaly_autoencoder.network.Network`, without ``numbers``: a mean and a log variance each.
    """

    def __init__(
        self,
        size: Grid,
        widths: Sequence[int] = (32, 32, 64, 128),
        latent_dim: int = 100,
        bottleneck: Bottleneck = "vector",
        norm: bool = False,
        skips: Sequence[int] = (),
    ) -> None:
        super().__init__(size, widths, latent_dim, bottleneck, norm, skips, numbers=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float (B, 3, H, W) images in [0, 1] -> reconstructions, means and log variances (B, L, h, w)."""
        numbers, features = self.encode(images)
        mean, log_variance = numbers.chunk(2, dim=1)
        log_variance = log_variance.clamp(*LOG_VARIANCES)
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        return self.decode(latents, features, images), mean, log_variance
