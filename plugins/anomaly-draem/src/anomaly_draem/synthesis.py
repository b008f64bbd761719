"""Synthetic anomalies: a source texture, changed in colour, shows through a mask of Perlin noise.

Deviations from DRAEM's code: without a folder of textures, sources are procedural textures and other images of the batch,
turned, enlarged and shifted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_draem.augment import augment, uniform
from anomaly_draem.geometry import rearrange, rotate
from anomaly_draem.perlin import random_perlin_noise
from anomaly_draem.procedural import procedural_textures
from anomaly_trainers import PictureFolder

THRESHOLD = 0.5  # of the noise: what exceeds it is anomalous


class Synthesis:
    """Puts anomalies on a batch of normal images.

    Args:
        textures: source images; None: procedural textures and the batch's own images.
        self_share: share of the sources that come from the batch where there are no textures.
        probability: that an image gets an anomaly at all.
        max_transparency: greatest share of the image that shows through.
    """

    def __init__(
        self,
        textures: PictureFolder | None = None,
        self_share: float = 0.5,
        probability: float = 0.5,
        max_transparency: float = 0.8,
    ) -> None:
        self.textures = textures
        self.self_share = self_share
        self.probability = probability
        self.max_transparency = max_transparency

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normal images -> images of which some have anomalies, and where.

        Args:
            images: float32 (B, 3, H, W) in [0, 1].

        Returns:
            float32 (B, 3, H, W) in [0, 1], and float32 (B, 1, H, W) masks of 0 and 1. A mask may be empty by chance, too: the
            noise exceeds nowhere.
        """
        masks = random_masks(len(images), (images.shape[-2], images.shape[-1]), images.device)
        masks = masks * (torch.rand(len(images), 1, 1, 1) < self.probability).to(images.device)
        transparency = uniform(0, self.max_transparency, len(images), 1, 1, 1).to(images.device)
        blended = (1 - transparency) * augment(self.sources(images)) + transparency * images
        return torch.where(masks > 0, blended, images), masks

    def sources(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) to make anomalies of, one an image, not yet changed in colour."""
        count = len(images)
        if self.textures is not None:
            return self.textures.draw(count).to(images.device)
        other = torch.arange(count) + (torch.randint(1, count, (count,)) if count > 1 else 0)
        own = rearrange(
            images[(other % count).to(images.device)],
            uniform(-180, 180, count),
            2 ** uniform(-1, 1, count),
            uniform(-1, 1, count, 2),
        )
        procedural = procedural_textures(count, (images.shape[-2], images.shape[-1]), images.device)
        from_batch = torch.rand(count, 1, 1, 1) < self.self_share
        return torch.where(from_batch.to(images.device), own, procedural)


def random_masks(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """float32 (count, 1, H, W) of 0 and 1: Perlin noise, turned by up to 90 degrees either way, where it exceeds a half."""
    noise = random_perlin_noise(count, size, device)[:, None]
    return (rotate(noise, uniform(-90, 90, count)) > THRESHOLD).float()
