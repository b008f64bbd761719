"""The patches of an object, told from its background by the first principal component of one image's patches."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Morphology = Literal["list", "grid"]
BORDER = 0.2  # share of each side that does not count as the middle of the image
SQUARINGS = 12  # the covariance to the power of 4096


def foreground_mask(patches: Tensor, threshold: float = 10.0, share: float = 0.35, morphology: Morphology = "list") -> Tensor:
    """AnomalyDINO's mask of the object.

    A patch is the object's if its projection on the first component exceeds the threshold; if that holds for no more than a
    share of the middle of the image, if its projection is below minus the threshold. Then the mask is dilated and closed.

    Args:
        patches: float32 (B, D, h, w).
        threshold: of the projection, in units of the features.
        share: of the middle.
        morphology: ``list`` along the flattened list of patches, as the original code does; ``grid``: by 3 x 3 patches.

    Returns:
        bool (B, h, w).
    """
    height, width = int(patches.shape[-2]), int(patches.shape[-1])
    tokens = patches.flatten(2).transpose(1, 2)  # (B, h * w, D)
    centred = tokens - tokens.mean(dim=1, keepdim=True)
    projection = (centred @ first_component(centred)[:, :, None]).view(-1, height, width)
    above, below = projection > threshold, projection < -threshold
    top, left = int(BORDER * height), int(BORDER * width)
    middle = above[:, top : int((1 - BORDER) * height), left : int((1 - BORDER) * width)].float().mean(dim=(1, 2))
    mask = torch.where((middle <= share)[:, None, None], below.float(), above.float())
    return (_along_the_list(mask) if morphology == "list" else _on_the_grid(mask)) > 0.5


def first_component(centred: Tensor) -> Tensor:
    """The first principal component of each image's centred patches (B, N, D), of length 1, as (B, D).

    The covariance is squared until its other directions have vanished: products alone, which any exported graph can hold. Its
    sign is scikit-learn's: the entry of the greatest magnitude is positive.
    """
    power = centred.transpose(1, 2) @ centred
    for _ in range(SQUARINGS):
        power = power / power.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None].clamp(min=1e-30)
        power = power @ power
    chosen = power.diagonal(dim1=1, dim2=2).argmax(dim=1)
    vector = power.gather(2, chosen[:, None, None].expand(-1, power.shape[1], 1))[:, :, 0]  # its column is v times v_chosen > 0
    return F.normalize(vector, dim=1, eps=1e-30)


def _along_the_list(mask: Tensor) -> Tensor:
    flat = mask.flatten(1)[:, None]  # (B, 1, h * w)
    dilated = F.max_pool1d(F.max_pool1d(flat, 3, 1, 1), 3, 1, 1)
    return (-F.max_pool1d(-dilated, 3, 1, 1)).view_as(mask)


def _on_the_grid(mask: Tensor) -> Tensor:
    dilated = F.max_pool2d(F.max_pool2d(mask[:, None], 3, 1, 1), 3, 1, 1)
    return (-F.max_pool2d(-dilated, 3, 1, 1))[:, 0]
