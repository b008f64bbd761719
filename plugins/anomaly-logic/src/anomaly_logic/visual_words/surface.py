"""Surface: how far each cell's features lie from the subspace of normal ones, whatever the arrangement: structural defects."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Surface(nn.Module):
    """The principal axes of the features of normal cells; empty until :meth:`fit`.

    Args:
        channels: D, of all layers together.
        variance: the share of the variance that the axes hold.

    Attributes:
        centre: float32 (D,), the mean.
        axes: float32 (q, D), orthonormal.
        scatter: float32 (D, D), the sum of the products of deviations.
        cells: int64 (), how many cells it has seen.
    """

    centre: Tensor
    axes: Tensor
    scatter: Tensor
    cells: Tensor

    def __init__(self, channels: int, variance: float) -> None:
        super().__init__()
        self.variance = variance
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("axes", torch.empty(0, channels))
        self.register_buffer("scatter", torch.empty(0, channels))
        self.register_buffer("cells", torch.tensor(0))

    def fit(self, count: int, total: Tensor, products: Tensor) -> None:
        """Find the axes from the sum (D,) and the sum of the products (D, D), float64, of ``count`` cells' features."""
        mean = total / count
        scatter = products - count * torch.outer(mean, mean)
        self.centre, self.scatter = mean.to(self.centre), scatter.to(self.centre)
        self.axes, self.cells = self._axes(scatter).to(self.centre), torch.tensor(count, device=self.centre.device)

    def forward(self, features: Tensor) -> Tensor:
        """float32 (B, D, h, w) -> the length of what is left of each cell without the axes, (B, h, w)."""
        return self._residuals(features, self.centre, self.axes)

    def without(self, features: Tensor) -> Tensor:
        """As :meth:`forward`, of images that it was fitted on, each by axes that were found without it."""
        images, count = features.shape[0], int(self.cells)
        residuals = torch.empty(images, *features.shape[-2:], device=features.device)
        for number in range(images):
            rows = features[number].flatten(1).double() - self.centre.double()[:, None]  # (D, h * w)
            rest = count - rows.shape[1]
            total = rows.sum(dim=1)
            scatter = self.scatter.double() - rows @ rows.T - torch.outer(total, total) / rest
            centre, axes = self.centre.double() - total / rest, self._axes(scatter)
            residuals[number] = self._residuals(features[number : number + 1], centre.to(features), axes.to(features))[0]
        return residuals

    def _axes(self, scatter: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(scatter)
        values = values.flip(0).clamp(min=0)
        held = int((values.cumsum(0) < self.variance * values.sum()).count_nonzero()) + 1
        axes: Tensor = vectors.flip(1)[:, :held].T.contiguous()
        return axes

    @staticmethod
    def _residuals(features: Tensor, centre: Tensor, axes: Tensor) -> Tensor:
        rows = features.flatten(2) - centre[:, None]  # (B, D, h * w)
        left = rows - axes.T @ (axes @ rows)
        return left.square().sum(dim=1).sqrt().reshape(-1, int(features.shape[-2]), int(features.shape[-1]))
