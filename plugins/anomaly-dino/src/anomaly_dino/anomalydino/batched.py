"""AnomalyDINO without any normal image: the patches of each image against those of all others of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

QUANTILE = 0.001  # share of the others' patches that count


def batched_distances(patches: Tensor, quantile: float = QUANTILE) -> Tensor:
    """Distances of patches from the nearest of all other images: most images are normal at most places.

    Args:
        patches: float (B, N, D), B images with N patches each.
        quantile: share of the others' patches whose distances are averaged, less one, as in the original.

    Returns:
        float32 (B, N): mean of 1 - cosine.
    """
    rows = F.normalize(patches.float(), dim=2)
    images, count, _ = rows.shape
    few = max(1, int(quantile * (images - 1) * count) - 1)
    distances = rows.new_empty(images, count)
    for i in range(images):
        others = torch.cat([rows[:i], rows[i + 1 :]]).flatten(0, 1)
        distances[i] = (1 - rows[i] @ others.T).topk(few, dim=1, largest=False).values.mean(dim=1)
    return distances
