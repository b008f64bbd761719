"""AnomalyDINO's bank of normal patches, and the distance of a patch from the nearest of them.

Paper: Damm et al., "AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2", WACV 2025,
https://arxiv.org/abs/2405.14529
Code: https://github.com/dammsi/AnomalyDINO, commit b3435f0

Deviations:
- An image has the size of ``model.image_size`` whatever its shape: by default it is stretched to a square of 448 pixels. The
  original scales the shorter edge to 448 and keeps the aspect. For images of one other aspect, name it:
  ``model.image_size=448,616``.
- Resizing is antialiased bilinear, the original's bicubic. Turned copies are made of the resized image, not before it.
- An image in which no patch is the object's is scored whole. The original gives it the score 0, as if it were perfect.
- The principal component of a mask is exact, the original's randomised: of its sign, see ``foreground.py``.
- The search is exact and in plain torch, so that an exported graph contains it. The original asks faiss, exactly as well.
- The bank may be bounded, extended and cut.
- With ``model.batched``, an image that is scored is recognised among those that judge one another by its patches: the original
  knows its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_core import RunError
from anomaly_dino.anomalydino.batched import batched_distances
from anomaly_dino.scores import image_scores
from anomaly_features import upsample_smooth

ROWS = 8192  # of the bank that one product compares: with 1024 patches of an image, 32 MB


class AnomalyDINOModel(nn.Module):
    """From a grid of patches to scores; works with any features.

    Args:
        metric: ``cosine`` or ``l2``.
        neighbors: nearest patches whose distances are averaged.
        sigma: of the Gaussian that smooths the map, in pixels.
        batched: the bank holds the images that judge one another; the share of their patches that counts is the original's.

    Attributes:
        memory_bank: float32 (N, D), of length 1 for the cosine; empty before it is filled.
    """

    memory_bank: Tensor

    def __init__(
        self, metric: Literal["cosine", "l2"] = "cosine", neighbors: int = 1, sigma: float = 4.0, batched: bool = False
    ) -> None:
        super().__init__()
        self.metric, self.neighbors, self.sigma, self.batched = metric, neighbors, sigma, batched
        self.register_buffer("memory_bank", torch.empty(0, 0))

    def rows(self, patches: Tensor) -> Tensor:
        """(B, D, h, w) -> (B * h * w, D), as the bank holds them."""
        rows = patches.flatten(2).transpose(1, 2).reshape(-1, int(patches.shape[1])).float()
        return F.normalize(rows, dim=1) if self.metric == "cosine" else rows

    @contextmanager
    def without(self, lost: Tensor) -> Iterator[None]:
        """Inside, the bank lacks the rows for which bool (N,) is True."""
        bank = self.memory_bank
        self.memory_bank = bank[~lost]
        try:
            yield
        finally:
            self.memory_bank = bank

    def patch_scores(self, patches: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distances of patches from the bank.

        Args:
            patches: float (B, D, h, w).
            mask: bool (B, h, w); patches where it is False score 0.

        Returns:
            float32 (B, h, w): 1 - cosine in [0, 2], or the root of the mean squared distance from the nearest ones.

        Raises:
            RunError: the bank is empty.
        """
        if not len(self.memory_bank):
            raise RunError("AnomalyDINO's memory bank is empty. Fit it first, or load a finished run.")
        grid = int(patches.shape[-2]), int(patches.shape[-1])
        count = grid[0] * grid[1]
        with torch.autocast(patches.device.type, enabled=False):
            if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[no-untyped-call,attr-defined]
                scores = self._nearest(self.rows(patches), count).view(-1, *grid)
            else:  # image by image, for the distances of a batch to all of the bank take room
                scores = torch.stack([self._nearest(self.rows(image[None]), count).view(grid) for image in patches])
        return scores if mask is None else scores * mask

    def _nearest(self, rows: Tensor, patches: int) -> Tensor:
        """(N, D) -> (N,); so many of them are an image's."""
        if self.batched:
            bank = self.memory_bank.view(-1, patches, self.memory_bank.shape[1])
            return batched_distances(rows.view(-1, patches, rows.shape[1]), bank).flatten()
        near = [
            self._squared(rows, part).topk(min(self.neighbors, len(part)), dim=1, largest=False).values
            for part in self.memory_bank.split(ROWS)
        ]
        joined = near[0] if len(near) == 1 else torch.cat(near, dim=1)
        few = min(self.neighbors, int(joined.shape[1]))
        mean = (joined if len(near) == 1 else joined.topk(few, dim=1, largest=False).values).clamp(min=0).mean(dim=1)
        return mean / 2 if self.metric == "cosine" else mean.sqrt()

    def _squared(self, rows: Tensor, bank: Tensor) -> Tensor:
        """Squared Euclidean distances (N, M)."""
        products = rows @ bank.T
        if self.metric == "cosine":
            return 2 - 2 * products
        return rows.square().sum(dim=1, keepdim=True) + bank.square().sum(dim=1) - 2 * products

    def forward(self, patches: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Patches (B, D, h, w) to image scores (B,), the mean of the greatest hundredth, and smoothed maps (B, 1, *size)."""
        scores = self.patch_scores(patches, mask)
        return image_scores(scores), upsample_smooth(scores[:, None], size, self.sigma)
