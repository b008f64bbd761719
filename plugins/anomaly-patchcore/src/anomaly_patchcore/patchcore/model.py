"""PatchCore: Towards Total Recall in Industrial Anomaly Detection.

Paper: Roth et al., CVPR 2022, https://arxiv.org/abs/2106.08265. Original: https://github.com/amazon-science/patchcore-inspection.

Deviations: the coreset's greedy search is exact from one start (the original estimates it from ten random starts); the search for
neighbours is exact and in float32; ``pretrain_dim`` and ``target_dim`` may be None, which averages each 3x3 patch per channel and
concatenates the layers, as the paper describes and the official code does not; equation 7 is offered, and off.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from anomaly_core.maps import gaussian_smooth, upsample
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_patchcore.coreset import coverage_radius, k_center_greedy
from anomaly_patchcore.search import nearest


class PatchCoreModel(nn.Module):
    """Patch embeddings of given feature maps, the memory bank, and the scores; usable without the rest of the project.

    Args:
        patch_size: side of a patch in feature cells.
        pretrain_dim: values that each layer's flattened patch is pooled to; None averages the patch per channel.
        target_dim: values of the whole embedding after a second pooling; None keeps all.
        neighbors: bank entries whose squared distances are averaged.
        reweight: apply the paper's equation 7 to the image score, over ``reweight_neighbors`` bank entries.
        sigma: of the map's Gaussian, in pixels.
    """

    memory_bank: Tensor

    def __init__(
        self,
        patch_size: int = 3,
        pretrain_dim: int | None = 1024,
        target_dim: int | None = 1024,
        neighbors: int = 1,
        reweight: bool = False,
        reweight_neighbors: int = 9,
        sigma: float = 4.0,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.pretrain_dim = pretrain_dim
        self.target_dim = target_dim
        self.neighbors = neighbors
        self.reweight = reweight
        self.reweight_neighbors = reweight_neighbors
        self.sigma = sigma
        self.register_buffer("memory_bank", torch.empty(0, 0))
        self.register_buffer("radius", torch.zeros(()))

    def embed(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps (B, C_l, H_l, W_l), shallow to deep -> patches (B, H_0, W_0, D)."""
        grid = features[0].shape[-2:]
        layers = [self._average(level, grid) if self.pretrain_dim is None else self._pool(level, grid) for level in features]
        if self.pretrain_dim is None:
            joined = torch.cat(layers, dim=-1)  # (B, H, W, sum C)
        else:
            joined = torch.stack(layers, dim=-2).flatten(-2)  # (B, H, W, L, P) -> (B, H, W, L*P)
        if self.target_dim is None:
            return joined
        flat = F.adaptive_avg_pool1d(joined.flatten(0, 2)[:, None], self.target_dim)[:, 0]  # (B*H*W, D)
        return flat.view(*joined.shape[:3], self.target_dim)

    def build(self, patches: Tensor, count: int, search_space: Tensor | None = None) -> None:
        """Keep ``count`` of the patches (N, D) as the memory bank; chosen in ``search_space`` (N, d), by default the patches."""
        chosen = k_center_greedy(patches if search_space is None else search_space, count)
        self.memory_bank = patches[chosen.to(patches.device)].contiguous()
        self.radius = torch.tensor(coverage_radius(patches, self.memory_bank), device=patches.device)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Feature maps -> (image scores (B,), anomaly maps (B, 1, *size)); squared L2 distances."""
        patches = self.embed(features)
        batch, height, width, _ = patches.shape
        count = min(self.neighbors, len(self.memory_bank))
        distances, indices = nearest(patches.flatten(0, 2), self.memory_bank, count)
        patch_scores = distances.mean(dim=1).view(batch, height * width)
        scores, oddest = patch_scores.max(dim=1)
        if self.reweight:
            rows = torch.arange(batch, device=scores.device)
            entry = indices.view(batch, height * width, count)[rows, oddest, 0]
            scores = scores * self._weight(patches.flatten(1, 2)[rows, oddest], entry)
        maps = upsample(patch_scores.view(batch, 1, height, width), size)
        return scores, gaussian_smooth(maps, self.sigma)

    def _weight(self, oddest: Tensor, entry: Tensor) -> Tensor:
        """Equation 7: 1 - softmax over the bank entries around the nearest one, of their distances to the patch; (B,)."""
        count = min(self.reweight_neighbors, len(self.memory_bank))
        _, around = nearest(self.memory_bank[entry], self.memory_bank, count)  # (B, count), the entry itself first
        distances = (oddest[:, None] - self.memory_bank[around]).square().sum(dim=2).sqrt()
        return 1 - torch.softmax(distances, dim=1)[:, 0]

    def _average(self, level: Tensor, grid: torch.Size) -> Tensor:
        """(B, C, h, w) -> (B, H, W, C): the mean of each patch, zero padded, resized to the shallow grid."""
        averaged = F.avg_pool2d(level, self.patch_size, stride=1, padding=self.patch_size // 2)
        if averaged.shape[-2:] != grid:
            averaged = F.interpolate(averaged, size=grid, mode="bilinear", align_corners=False)
        return averaged.permute(0, 2, 3, 1)

    def _pool(self, level: Tensor, grid: torch.Size) -> Tensor:
        """(B, C, h, w) -> (B, H, W, pretrain_dim): whole patches, resized per element, then pooled to one length."""
        batch, channels = level.shape[:2]
        patches = F.unfold(level, self.patch_size, padding=self.patch_size // 2)  # (B, C*k*k, h*w)
        patches = patches.view(batch, -1, *level.shape[-2:])
        if level.shape[-2:] != grid:
            patches = F.interpolate(patches, size=grid, mode="bilinear", align_corners=False)
        flat = patches.permute(0, 2, 3, 1).flatten(0, 2)  # (B*H*W, C*k*k)
        assert self.pretrain_dim is not None
        pooled = F.adaptive_avg_pool1d(flat[:, None], self.pretrain_dim)[:, 0]
        return pooled.view(batch, *grid, self.pretrain_dim)
