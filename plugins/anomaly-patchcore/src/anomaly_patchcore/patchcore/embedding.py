"""Patches of feature maps: neighbouring cells pooled, layers joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def embedded(features: Sequence[Tensor], patch_size: int, pretrain_dim: int, target_dim: int | None) -> Tensor:
    """float (B, C_i, h_i, w_i) maps, the shallowest first, as float32 (B, h_0, w_0, D) patches; arguments as the model's."""
    grid = features[0].shape[-2:]
    layers = []
    for feature in features:
        # channels last, as the patches come out: five times faster
        feature = feature.float().contiguous(memory_format=torch.channels_last)
        pooled = _pooled(feature, patch_size, None if target_dim is None else pretrain_dim)  # (B, C, h, w) -> (B, d, h, w)
        layers.append(
            pooled if pooled.shape[-2:] == grid else F.interpolate(pooled, grid, mode="bilinear", align_corners=False)
        )
    patches = torch.cat(layers, dim=1).permute(0, 2, 3, 1)  # (B, d * layers, h, w) -> (B, h, w, d * layers)
    if target_dim is None:
        return patches.contiguous()
    return F.adaptive_avg_pool1d(patches.flatten(0, 2)[:, None], target_dim).view(*patches.shape[:3], target_dim)


def _pooled(feature: Tensor, patch_size: int, dim: int | None) -> Tensor:
    """Each patch pooled to ``dim`` values over its (C * patch_size^2) cells; None: averaged."""
    padding = patch_size // 2
    if dim is None:
        return F.avg_pool2d(feature, patch_size, stride=1, padding=padding)
    height, width = feature.shape[-2:]
    cells = F.unfold(feature, patch_size, padding=padding)  # (B, C, h, w) -> (B, C * p * p, h * w)
    pooled = F.adaptive_avg_pool2d(cells[:, None], (dim, height * width))  # along the first axis alone
    return pooled.view(len(feature), dim, height, width)
