"""Kernel PCA of normal patches, in place of the subspace: an option of the original code, for a few images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomaly_core import DataError, RunError

LEAST = 1e-12  # standard deviation of a feature that counts as constant


class KernelSubspace(nn.Module):
    """Patches that normal ones span in the space of a Gaussian kernel.

    Features are standardised; the kernel is exp(-gamma |x - y|^2) with gamma 1 / D. A patch scores 1 less the squared length of
    its projection, at least 0: as in the original, the centring of k(x, x) is left out.

    Args:
        variance: share of the variance that is kept.
        pca_dim: components; None: as many as the share takes.

    Attributes:
        patches: float32 (N, D), standardised; empty until :meth:`build`.
        mean, std: float32 (D,).
        weights: float32 (N, k): a projection's weights on the centred kernel.
        row: float32 (N,): mean of each row of the kernel.
    """

    patches: Tensor
    mean: Tensor
    std: Tensor
    weights: Tensor
    row: Tensor

    def __init__(self, variance: float = 0.99, pca_dim: int | None = None) -> None:
        super().__init__()
        self.variance, self.pca_dim = variance, pca_dim
        for name, shape in {"patches": (0, 0), "mean": (0,), "std": (0,), "weights": (0, 0), "row": (0,)}.items():
            self.register_buffer(name, torch.empty(shape))

    def build(self, patches: Tensor) -> None:
        """Fit on (N, D); takes the memory of an N x N matrix in float64 and the time of its eigenvectors.

        Raises:
            DataError: all patches are the same.
        """
        device, rows = self.patches.device, patches.double()
        mean, std = rows.mean(dim=0), rows.std(dim=0, correction=0)
        std = torch.where(std > LEAST, std, 1.0)
        rows = (rows - mean) / std
        kernel = self._kernel(rows, rows)
        row = kernel.mean(dim=0)
        values, vectors = torch.linalg.eigh(kernel - row - row[:, None] + row.mean())
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        if not float(values[0]) > 0:
            raise DataError(
                "SubspaceAD saw patches without any variation. Add normal images, or check that they are not blank."
            )
        share = values.cumsum(0) / values.sum()
        count = min(len(values), self.pca_dim or int((share < self.variance).sum()) + 1, int((values > LEAST).sum()))
        found = {"patches": rows, "mean": mean, "std": std, "weights": vectors[:, :count] / values[:count].sqrt(), "row": row}
        for name, value in found.items():
            setattr(self, name, value.to(device, torch.float32).contiguous())

    def forward(self, patches: Tensor) -> Tensor:
        """(N, D) -> (N,) scores in [0, 1]; RunError before :meth:`build`."""
        if not len(self.patches):
            raise RunError("SubspaceAD has no subspace yet. Fit it first, or load a finished run.")
        kernel = self._kernel((patches - self.mean) / self.std, self.patches)
        centred = kernel - kernel.mean(dim=1, keepdim=True) - self.row + self.row.mean()
        return (1 - (centred @ self.weights).square().sum(dim=1)).clamp(min=0)

    @staticmethod
    def _kernel(first: Tensor, second: Tensor) -> Tensor:
        products = first @ second.T
        squared = first.square().sum(dim=1, keepdim=True) + second.square().sum(dim=1) - 2 * products
        return torch.exp(squared.clamp(min=0) / -first.shape[1])
