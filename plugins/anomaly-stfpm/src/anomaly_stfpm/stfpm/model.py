"""STFPM's network part: teacher, student, and how far apart they are at each level.

Paper: Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021,
https://arxiv.org/abs/2103.04257
Code: https://github.com/gdwang08/STFPM is GPL-3 and was not looked at; this module is written from the paper.

Deviations:
- The squared distance carries no factor 1/2, neither in the loss nor in the map: scores are those of the equations times 2
  to the number of levels, rankings are the same.
- Teacher and student may be any of timm's networks, and the levels any number of their feature maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_features import upsample


def feature_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Squared distance of two feature maps of unit length at every location.

    Args:
        teacher, student: float (B, C, h, w).

    Returns:
        float32 (B, h, w), 0 where they point the same way to 4 where they are opposite.
    """
    return (F.normalize(teacher.float(), dim=1) - F.normalize(student.float(), dim=1)).square().sum(dim=1)


def level_losses(distances: Sequence[Tensor]) -> list[Tensor]:
    """(B, h_i, w_i) distances, one a level, to their means over batch and space; their sum is the loss."""
    return [distance.mean() for distance in distances]


def score_map(distances: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The product of all levels, each enlarged bilinearly: high where every level disagrees.

    Args:
        distances: float (B, h_i, w_i), one a level.
        size: (H, W) of the product.

    Returns:
        (B, 1, H, W).
    """
    product = upsample(distances[0][:, None], size)
    for distance in distances[1:]:
        product = product * upsample(distance[:, None], size)
    return product


class STFPMModel(nn.Module):
    """A teacher and a student; whoever's networks they may be, as long as both return feature maps of the same shapes.

    Args:
        teacher: images to a list of (B, C_i, h_i, w_i); frozen by its owner, never differentiated here.
        student: the same, with weights of its own, trained.
        map_size: (height, width) at which the levels' maps are multiplied.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, map_size: tuple[int, int] = (64, 64)) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.map_size = map_size

    def forward(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) images, as both networks want them, to distances (B, h_i, w_i), one a level."""
        with torch.no_grad():
            taught = self.teacher(images)
        return [feature_distance(t, s) for t, s in zip(taught, self.student(images), strict=True)]

    def score(self, distances: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image scores and anomaly maps.

        Args:
            distances: of :meth:`forward`, one a level.
            size: (H, W) of the maps.

        Returns:
            float32 (B,) scores: the greatest value of the product at ``map_size``; and float32 (B, 1, *size) maps, the product
            resized, not smoothed.
        """
        product = score_map(distances, self.map_size)
        return product.amax(dim=(1, 2, 3)), upsample(product, size)
