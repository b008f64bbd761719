"""UNetAE: an autoencoder with skips that has learnt to remove noise, and removes what is not normal as well.

Paper: there is no original; the nearest are Bergmann et al. (see ``vanilla_ae/model.py``) for the autoencoder, and Kascenas et
al., "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", MIDL 2022,
https://openreview.net/forum?id=Bm8-t_ggzPD, for skips and noise.
Code: none was used.

Why noise: skips that pass the latent values by carry an anomaly to the output as well as anything else, so that a U-Net which
learns to copy reconstructs it and finds nothing. Smooth, coloured blots in the training images, which the loss wants removed,
leave no use in copying: the network must know what belongs there. The skips then bring sharp reconstructions of normal
texture, which the latent values alone cannot. There is none at the images' own resolution, where one convolution would copy.

Deviations:
- Those of ``vanilla_ae/model.py``.
- Kascenas et al. blot the whole image at one scale; here the scales are several, and the share of the image is an option.
"""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_autoencoder.blocks import Grid
from anomaly_autoencoder.networks import Autoencoder, Bottleneck


class UNetAE(Autoencoder):
    """An autoencoder with skips; arguments as :class:`~anomaly_autoencoder.vanilla_ae.model.VanillaAE`, and:

    Args:
        skips: strides whose encoder maps pass the latent values by; 2 is the finest.
    """

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
