"""Autoencoder: an image goes through few latent values, and what is not normal gets lost on the way.

Paper: there is no original. The nearest for ``vanilla_ae`` is Bergmann et al., "Improving Unsupervised Defect Segmentation by
Applying Structural Similarity to Autoencoders", VISAPP 2019, https://arxiv.org/abs/1807.02011; for the skips and the noise of
``unet_ae`` it is Kascenas et al., "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", MIDL 2022,
https://openreview.net/forum?id=Bm8-t_ggzPD
Code: the authors of the first published none; none was used.

Why ``unet_ae`` learns to remove noise: skips that pass the latent values by carry an anomaly to the output as well as anything
else, so that a U-Net which learns to copy reconstructs it and finds nothing. Smooth, coloured blots in the training images,
which the loss wants removed, leave no use in copying: the network must know what belongs there. The skips then bring sharp
reconstructions of normal texture, which the latent values alone cannot. There is none at the images' own resolution, where one
convolution would copy.

Deviations:
- Bergmann et al. learn from 128x128 crops of textures and score overlapping crops of larger images. Here an image is resized as
  a whole, so that objects can be learnt as well.
- They narrow the deepest map by two more convolutions before its 100 latent values, and double the side by transposed
  convolutions, which leave a checkerboard in the error. Here it is doubled by repetition, followed by two convolutions.
- Convolutions see the mirrored border, not zeros: with zeros every map is bright along the border.
- They threshold pixels and know no image score; here it is the map's maximum, or its mean.
- Kascenas et al. blot the whole image at one scale; here the scales are several, and the share of the image is an option.
- Options that neither has: a latent map instead of a vector (`edge`), batch normalisation, noise without skips, MSE and L1.
"""

from __future__ import annotations

from torch import Tensor

from anomaly_autoencoder.network import Network


class Autoencoder(Network):
    """A network whose latent values are numbers; arguments as :class:`~anomaly_autoencoder.network.Network`.

    Without ``skips`` (``vanilla_ae``) the latent values are all that it knows of an image.
    """

    def forward(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) images in [0, 1] -> their reconstructions, about [0, 1] but not cut to it."""
        latents, features = self.encode(images)
        return self.decode(latents, features, images)
