"""AnomalyDINO without any normal image: the patches of each image against those of all others (batched zero-shot)."""

from __future__ import annotations

import torch
from torch import Tensor

QUANTILE = 0.001  # share of the others' patches that count


CELLS = 2**25  # distances that are held at once: 128 MB an image
FARTHER = 4.0  # than any patch can be
SAME = 1e-3  # mean distance of an image's patches from those of the collected image that it is


def batched_distances(patches: Tensor, bank: Tensor, quantile: float = QUANTILE) -> Tensor:
    """Distances of the patches of images from the nearest of all other images: most images are normal at most places.

    An image that is among those of the bank is recognised, place by place, and not compared with itself.

    Args:
        patches: float32 (B, N, D), of length 1: B images with N patches each.
        bank: float32 (M, N, D), of length 1: the images that judge one another.
        quantile: share of the patches of M - 1 images whose distances are averaged, less one, as in the original.

    Returns:
        float32 (B, N): mean of 1 - cosine.
    """
    images, count = int(bank.shape[0]), int(bank.shape[1])
    few = max(1, int(quantile * (images - 1) * count) - 1)
    rows = bank.flatten(0, 1)
    own = 1 - patches.flatten(1) @ bank.flatten(1).T / count < SAME  # (B, M)
    farther = (own.float() * FARTHER)[:, :, None].expand(-1, -1, count).flatten(1)[:, None]  # (B, 1, M * N)
    step = max(1, CELLS // (images * count))
    parts = [
        (1 - patches[:, first : first + step] @ rows.T + farther).topk(few, dim=2, largest=False).values.mean(dim=2)
        for first in range(0, count, step)
    ]
    return torch.cat(parts, dim=1)
