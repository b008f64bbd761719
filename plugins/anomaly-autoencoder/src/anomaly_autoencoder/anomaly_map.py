"""From an image and its reconstruction to an anomaly map and a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from anomaly_autoencoder.functional import ssim_map
from anomaly_features import gaussian_smooth

Error = Literal["squared", "absolute"]
ImageScore = Literal["max", "mean"]


@dataclass(frozen=True)
class ReconstructionError:
    """``error_weight`` times the error of a pixel, mean over channels, plus ``ssim_weight`` times (1 - SSIM) around it.

    Args:
        error: the squared or the absolute difference.
        error_weight, ssim_weight: of the two parts.
        sigma: of the Gaussian that smooths the map, in pixels; 0: none.
        image_score: the map's maximum or its mean.
    """

    error: Error = "absolute"
    error_weight: float = 1.0
    ssim_weight: float = 1.0
    sigma: float = 4.0
    image_score: ImageScore = "max"

    def __call__(self, reconstruction: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Two float32 (B, 3, H, W) batches in [0, 1] -> scores (B,) and maps (B, 1, H, W), 0 where the two are identical."""
        difference = (reconstruction - images).abs()
        maps = self.error_weight * (difference.square() if self.error == "squared" else difference).mean(dim=1, keepdim=True)
        if self.ssim_weight:
            maps = maps + self.ssim_weight * (1 - ssim_map(reconstruction, images))
        maps = gaussian_smooth(maps, self.sigma)
        scores = maps.amax(dim=(1, 2, 3)) if self.image_score == "max" else maps.mean(dim=(1, 2, 3))
        return scores, maps
