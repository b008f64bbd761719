"""Arrangement: how much of each word the regions of a normal image have, as one Gaussian; and which cells depart from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST = 1e-10  # variance of a share, for images that are all alike: a twentieth of a cell in 5,000


class Arrangement(nn.Module):
    """A Gaussian of the shares of all words in all regions of a grid, with a shrunk covariance; empty until :meth:`fit`.

    Args:
        regions: n, for n x n regions.

    Attributes:
        mean: float32 (K * n * n,), the mean shares.
        axes: float32 (r, K * n * n), the directions in which normal images differ; r is at most their number.
        values: float32 (r,), the shrunk variances along them.
        raw: float32 (r,), the variances of the normal images themselves.
        noise: float32 (), the variance in every other direction.
        kept: float32 (), the weight of ``raw`` in ``values``: 1 less the shrinkage.
        images: int64 (), how many it was fitted on.
    """

    mean: Tensor
    axes: Tensor
    values: Tensor
    raw: Tensor
    noise: Tensor
    kept: Tensor
    images: Tensor

    def __init__(self, regions: int) -> None:
        super().__init__()
        self.regions = regions
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("axes", torch.empty(0, 0))
        self.register_buffer("values", torch.empty(0))
        self.register_buffer("raw", torch.empty(0))
        self.register_buffer("noise", torch.tensor(1.0))
        self.register_buffer("kept", torch.tensor(1.0))
        self.register_buffer("images", torch.tensor(0))

    def counted(self, shares: Tensor) -> Tensor:
        """Shares of cells, (B, K, h, w), to shares of regions, (B, K * n * n)."""
        return (shares.flatten(2) @ self._pooling(shares)).flatten(1)

    def fit(self, counts: Tensor) -> None:
        """Estimate the Gaussian from the counts of normal images, (N, K * n * n).

        The covariance is Ledoit and Wolf's (A well-conditioned estimator for large-dimensional covariance matrices, Journal of
        Multivariate Analysis, 2004), as there are far fewer images than counts.
        """
        from sklearn.covariance import ledoit_wolf_shrinkage

        like = self.noise
        rows = counts.double().cpu()
        deviations = rows - rows.mean(dim=0)
        shrinkage = float(ledoit_wolf_shrinkage(deviations.numpy(), assume_centered=True))
        _, lengths, axes = torch.linalg.svd(deviations, full_matrices=False)
        raw = lengths.square() / len(rows)
        noise = max(shrinkage * float(raw.sum()) / rows.shape[1], LEAST)
        self.mean, self.axes, self.raw = rows.mean(dim=0).to(like), axes.contiguous().to(like), raw.to(like)
        self.values = ((1 - shrinkage) * raw + noise).to(like)
        self.noise, self.kept = like.new_tensor(noise), like.new_tensor(1 - shrinkage)
        self.images = torch.tensor(len(rows), device=like.device)

    def forward(self, beyond: Tensor) -> tuple[Tensor, Tensor]:
        """Squared Mahalanobis distances (B,) of images, and each cell's part in them, (B, h, w), which sum to them.

        Args:
            beyond: float32 (B, K, h, w), shares less the mean shares of the same cells.

        A cell's part is the product of what it has of each word beyond the usual and the distance's gradient for the word in
        this region: high where there is too much of a word, and also where one is usual and too little of it is in the region.
        """
        pooling = self._pooling(beyond)
        deviations = (beyond.flatten(2) @ pooling).flatten(1)  # (B, K * n * n)
        along = deviations @ self.axes.T
        gradient = deviations / self.noise + (along * (1 / self.values - 1 / self.noise)) @ self.axes
        # the whole is computed from its parts: both are exact, and equal whatever is rounded
        spread = gradient.reshape(-1, int(beyond.shape[1]), self.regions**2) @ pooling.T  # (B, K, h * w)
        parts = (beyond.flatten(2) * spread).sum(dim=1)
        return parts.sum(dim=1).clamp(min=0), parts.reshape(-1, int(beyond.shape[-2]), int(beyond.shape[-1]))

    def distances_without(self, counts: Tensor) -> Tensor:
        """Squared distances (B,) of images that it was fitted on, each from a Gaussian that was fitted without it.

        Args:
            counts: float (B, K * n * n) of :meth:`counted`.

        To leave an image out changes the scatter by a product d d^T, of its deviation d: by Sherman and Morrison the distance
        follows from that with it. The shrinkage and its target stay. In float64, for the last denominator may be small.
        """
        count = int(self.images)
        more = count / (count - 1)
        deviations = (counts.double() - self.mean.double()) * more
        along = deviations @ self.axes.double().T
        noise = self.noise.double()
        across = (deviations.square().sum(dim=1) - along.square().sum(dim=1)).clamp(min=0)
        squared = (along.square() / (self.kept.double() * self.raw.double() * more + noise)).sum(dim=1) + across / noise
        return squared / (1 - self.kept.double() / count * squared).clamp(min=1e-12)

    def _pooling(self, shares: Tensor) -> Tensor:
        """(h * w, n * n): the weight of each cell in each region's mean."""
        height, width = int(shares.shape[-2]), int(shares.shape[-1])
        down, across = (_regions(length, self.regions) for length in (height, width))
        return torch.einsum("hi,wj->hwij", down, across).reshape(height * width, -1).to(shares)


def _regions(length: int, regions: int) -> Tensor:
    """(length, regions): the weight of each of a line's cells in the mean of each of its equal parts; a cell may be in two."""
    edges = torch.arange(regions + 1, dtype=torch.float64) * length / regions
    cells = torch.arange(length, dtype=torch.float64)[:, None]
    covered = (torch.minimum(edges[1:], cells + 1) - torch.maximum(edges[:-1], cells)).clamp(min=0)
    return covered / covered.sum(dim=0)
