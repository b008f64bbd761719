"""VanillaAE: an image goes through few latent values, and what is not normal gets lost on the way.

Paper: there is no original; the nearest is Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural
Similarity to Autoencoders", VISAPP 2019, https://arxiv.org/abs/1807.02011
Code: the authors published none.

Deviations:
- The paper learns from 128x128 crops of textures and scores overlapping crops of larger images. Here an image is resized as a
  whole, so that objects can be learnt as well.
- The paper narrows the deepest map by two more convolutions before its 100 latent values, and doubles the side by transposed
  convolutions, which leave a checkerboard in the error. Here it is doubled by repetition, followed by two convolutions.
- Convolutions see the mirrored border, not zeros: with zeros every map is bright along the border.
- The paper thresholds pixels and knows no image score; here it is the map's maximum, or its mean.
- Options that the paper has not: a latent map instead of a vector (`edge`), batch normalisation, noise to remove, MSE and L1.
"""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_autoencoder.blocks import Grid
from anomaly_autoencoder.networks import Autoencoder, Bottleneck


class VanillaAE(Autoencoder):
    """An autoencoder without skips: all it knows of an image are the latent values.

    Args:
        size: (H, W) of the images.
        widths: channels of each stage, the finest first; a stage halves the side.
        latent_dim: latent values of an image (``vector``) or of each cell of the deepest map (``map``).
        bottleneck: ``vector`` or ``map``; with ``map`` images of other sizes fit as well.
        norm: batch normalisation after each convolution.
    """

    def __init__(
        self,
        size: Grid,
        widths: Sequence[int] = (32, 32, 64, 128),
        latent_dim: int = 100,
        bottleneck: Bottleneck = "vector",
        norm: bool = False,
    ) -> None:
        super().__init__(size, widths, latent_dim, bottleneck, norm)
