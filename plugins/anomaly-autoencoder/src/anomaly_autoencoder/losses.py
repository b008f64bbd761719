"""What is minimised: a mix of MSE, L1 and SSIM; for a variational autoencoder with the divergence of its latent values.

Each loss gives two groups of scalars apart: losses, of which ``loss`` is the weighted sum of the others and is minimised, and
figures that are only logged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_autoencoder.functional import psnr, ssim

Scalars = dict[str, Tensor]


class AELoss(nn.Module):
    """``mse_weight * MSE + l1_weight * L1 + ssim_weight * (1 - SSIM)``, each a mean over all values.

    Args:
        mse_weight, l1_weight, ssim_weight: of the parts; a part of weight 0 is reported all the same.
    """

    def __init__(self, mse_weight: float = 0.0, l1_weight: float = 0.0, ssim_weight: float = 1.0) -> None:
        super().__init__()
        self.weights = {"mse_loss": mse_weight, "l1_loss": l1_weight, "ssim_loss": ssim_weight}

    def forward(self, reconstruction: Tensor, images: Tensor) -> tuple[Scalars, Scalars]:
        """Two (B, 3, H, W) batches, the images in [0, 1] -> losses and figures, all scalars.

        The losses are ``loss`` and its parts, the figures ``psnr`` (dB) and ``ssim``. Computed in float32 whatever the network
        was: in half precision an SSIM is noise.
        """
        with torch.autocast(images.device.type, enabled=False):
            reconstruction, images = reconstruction.float(), images.float()
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights["ssim_loss"] > 0):
                similarity = ssim(reconstruction, images).mean()
            parts = {
                "mse_loss": F.mse_loss(reconstruction, images),
                "l1_loss": F.l1_loss(reconstruction, images),
                "ssim_loss": 1 - similarity,
            }
            used = [self.weights[name] * part for name, part in parts.items() if self.weights[name] > 0]
            with torch.no_grad():
                ratio = psnr(reconstruction.clamp(0, 1), images).mean()
        return {"loss": torch.stack(used).sum(), **parts}, {"psnr": ratio, "ssim": similarity.detach()}


class VAELoss(nn.Module):
    """:class:`AELoss` plus ``beta`` times the KL divergence of the latent values from a standard normal distribution.

    The divergence is a sum over an image's latent values, divided by the number of the image's values: nats a value, so that
    ``beta`` means the same at every image size. With MSE alone, ``beta`` is twice the variance of the pixels' noise.

    Args:
        mse_weight, l1_weight, ssim_weight: as :class:`AELoss`.
    """

    def __init__(self, mse_weight: float = 0.0, l1_weight: float = 0.0, ssim_weight: float = 1.0) -> None:
        super().__init__()
        self.reconstruction_loss = AELoss(mse_weight, l1_weight, ssim_weight)

    def forward(
        self, reconstruction: Tensor, images: Tensor, mean: Tensor, log_variance: Tensor, beta: float
    ) -> tuple[Scalars, Scalars]:
        """As :class:`AELoss`, with latent means and log variances (B, L, h, w).

        Adds ``kl_loss`` to the losses and ``beta`` to the figures.
        """
        losses, figures = self.reconstruction_loss(reconstruction, images)
        divergence = kl_divergence(mean, log_variance).mean() / images[0].numel()
        losses = {**losses, "loss": losses["loss"] + beta * divergence, "kl_loss": divergence}
        return losses, {**figures, "beta": divergence.new_tensor(beta)}


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B, ...) means and log variances -> (B,) nats between these independent normal distributions and the standard one."""
    mean, log_variance = mean.float().flatten(1), log_variance.float().flatten(1)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
