"""PaDiM's network part: embedding of every location, its Gaussian, and the distance from it.

Paper: Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", 2020,
https://arxiv.org/abs/2011.08785
Code: https://github.com/xiahaifeng1995/PaDiM-Anomaly-Detection-Localization-master, the one that everybody compares with

Deviations:
- Means and covariances are gathered online: memory grows with the locations and the square of the channels, not with the
  images. The original keeps every feature of the training set.
- Each covariance is stored as the inverse of its Cholesky factor, float32: one batched product gives all distances.
- The channels are drawn by the run's seed, the original's by a fixed one of its own.
- Scores are raw. The original rescales the maps by the extremes of the test set.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_core import ConfigError, DataError, RunError
from anomaly_features import upsample_smooth
from anomaly_patchcore.padim.moments import Moments

CELLS = 2**20  # values of the covariances that are factored at once, in float64: a few copies of 8 MB


class PaDiMModel(nn.Module):
    """From feature maps to scores; works with any feature extractor.

    Args:
        channels: of each feature map, in the order in which they come.
        n_features: channels drawn from all of them; None takes all.
        regularization: added to the diagonal of each covariance.
        sigma: of the Gaussian that smooths the map, in pixels.
        generator: a CPU generator for the draw; None is torch's global one.

    Attributes:
        selected: int64 (D,) ascending indices into the concatenated channels.
        mean: float32 (h, w, D), empty until :meth:`build`.
        whitening: float32 (h, w, D, D): W with W^T W the inverse of the covariance; empty until :meth:`build`.
        images: int64 (): how many images it has seen.

    Raises:
        ConfigError: there are fewer channels than ``n_features``.
    """

    selected: Tensor
    mean: Tensor
    whitening: Tensor
    images: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        n_features: int | None = None,
        regularization: float = 0.01,
        sigma: float = 4.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        total = sum(channels)
        if n_features is not None and n_features > total:
            raise ConfigError(
                f"model.n_features={n_features}, and the layers have {total} channels together "
                f"({' + '.join(map(str, channels))}). Choose 1 to {total}, or more layers."
            )
        self.regularization = regularization
        self.sigma = sigma
        dim = n_features or total
        self.register_buffer("selected", torch.randperm(total, generator=generator)[:dim].sort().values)
        self.register_buffer("mean", torch.empty(0, 0, dim))
        self.register_buffer("whitening", torch.empty(0, 0, dim, dim))
        self.register_buffer("images", torch.tensor(0))

    def embed(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps of one batch as one: each enlarged to the finest grid by repeating cells, then the selected channels.

        Args:
            features: float (B, C_i, h_i, w_i), one a layer, in the order of ``channels``.

        Returns:
            float32 (B, D, h, w).
        """
        grid = max((feature.shape[-2:] for feature in features), key=lambda size: size[0] * size[1])
        if torch.compiler.is_compiling():  # torch.export does not know which channels they are
            whole = [
                f if f.shape[-2:] == grid else F.interpolate(f, grid, mode="nearest") for f in map(torch.Tensor.float, features)
            ]
            return torch.cat(whole, dim=1).index_select(1, self.selected)
        selected, first, layers = self.selected.tolist(), 0, []
        for feature in features:
            own = [channel - first for channel in selected if first <= channel < first + int(feature.shape[1])]
            first += int(feature.shape[1])
            if own:  # selected before they are enlarged: half the time
                chosen = feature.float().index_select(1, torch.tensor(own, device=feature.device))
                layers.append(chosen if feature.shape[-2:] == grid else F.interpolate(chosen, grid, mode="nearest"))
        return torch.cat(layers, dim=1)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Feature maps to image scores (B,) and anomaly maps (B, 1, *size): :meth:`embed`, :meth:`distances`, :meth:`score`."""
        return self.score(self.distances(self.embed(features)), size)

    def build(self, moments: Moments, grid: tuple[int, int]) -> None:
        """Compute a mean and a whitening matrix per location from the moments of all training embeddings; consumes the moments.

        Args:
            moments: of the h * w locations, row by row.
            grid: (h, w).

        Raises:
            DataError: there are fewer than two images, or a covariance that has no Cholesky factor.
        """
        if moments.count < 2:
            raise DataError(
                f"PaDiM needs two training images or more for a covariance and saw {moments.count}. "
                "Add normal images, or lower data.holdout."
            )
        mean = moments.mean()
        whitening = _whiten(moments.scatter(), moments.count, self.regularization)
        dim = mean.shape[1]
        self.mean, self.whitening = mean.view(*grid, dim), whitening.view(*grid, dim, dim)
        self.images = torch.tensor(moments.count, device=mean.device)

    def distances(self, embedding: Tensor) -> Tensor:
        """Mahalanobis distance of every location, with the square root.

        Args:
            embedding: float32 (B, D, h, w) of :meth:`embed`.

        Returns:
            float32 (B, h, w).

        Raises:
            RunError: nothing was fitted, or on another grid.
        """
        grid, fitted = tuple(embedding.shape[-2:]), tuple(self.mean.shape[:2])
        self.require_fitted()
        if grid != fitted:
            raise RunError(
                f"PaDiM was fitted on {fitted[0]}x{fitted[1]} locations, and these images have {grid[0]}x{grid[1]}. "
                "It knows each location by itself: give images of the size that it was fitted on."
            )
        with torch.autocast(embedding.device.type, enabled=False):
            deviations = locations(embedding) - self.mean.flatten(0, 1)[:, None]  # (h * w, B, D)
            whitened = torch.bmm(deviations, self.whitening.flatten(0, 1).transpose(1, 2))
            lengths: Tensor = torch.linalg.vector_norm(whitened, dim=2)  # (h * w, B)
            return lengths.T.reshape(-1, *grid)

    def require_fitted(self) -> None:
        """Raise RunError without distributions."""
        if not self.mean.numel():
            raise RunError("PaDiM has no distributions yet. Fit it first, or load a finished run.")

    def distances_without(self, embedding: Tensor) -> Tensor:
        """As :meth:`distances`, of images that it was fitted on, each from Gaussians that were fitted without it.

        To leave an image out changes the scatter by one product d d^T, d its deviation from the mean: by Sherman and Morrison
        (Annals of Mathematical Statistics, 1950) its squared distance is then a function of that with it, h, and of the number
        of images, n: (n / (n - 1))^2 (n - 2) / (n - 1) h / (1 - n h / (n - 1)^2). The regularisation counts as
        (n - 1) / (n - 2) times as large. In float64, for the last denominator may be small.
        """
        count = int(self.images)
        grid = embedding.shape[-2:]
        deviations = locations(embedding).double() - self.mean.flatten(0, 1)[:, None].double()  # (h * w, B, D)
        step = max(1, CELLS // self.mean.shape[2] ** 2)
        parts = [
            torch.bmm(d, w.double().transpose(1, 2)).square().sum(dim=2)
            for d, w in zip(deviations.split(step), self.whitening.flatten(0, 1).split(step), strict=True)
        ]
        squared = torch.cat(parts)  # (h * w, B)
        denominator = (1 - count / (count - 1) ** 2 * squared).clamp(min=1e-12)
        without = (count / (count - 1)) ** 2 * (count - 2) / (count - 1) * squared / denominator
        return without.sqrt().float().T.reshape(-1, *grid)

    def score(self, distances: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image scores and anomaly maps.

        Args:
            distances: float32 (B, h, w) of :meth:`distances`.
            size: (H, W) of the maps.

        Returns:
            float32 (B,) scores: the greatest value of the smoothed map, a distance in standard deviations; and float32
            (B, 1, *size) maps.
        """
        maps = upsample_smooth(distances[:, None], size, self.sigma)
        return maps.amax(dim=(1, 2, 3)), maps


def locations(embedding: Tensor) -> Tensor:
    """(B, D, h, w) -> (h * w, B, D): the vectors of each location side by side."""
    return embedding.flatten(2).permute(2, 0, 1).contiguous()  # products of strided batches are forty times as slow


def _whiten(scatter: Tensor, count: int, regularization: float) -> Tensor:
    """Overwrite (L, D, D) scatter matrices with the inverse Cholesky factors of their regularised covariances."""
    dim = scatter.shape[1]
    exact = "cpu" if scatter.device.type == "mps" else scatter.device  # MPS has no float64
    identity = torch.eye(dim, dtype=torch.float64, device=exact)
    for part in scatter.split(max(1, CELLS // dim**2)):
        covariance = part.to(exact, torch.float64) / (count - 1)
        factor, failed = torch.linalg.cholesky_ex(covariance + regularization * identity)
        if failed.any():
            raise DataError(
                f"PaDiM: the covariance of {int(failed.count_nonzero())} of {len(part)} locations is not positive definite: "
                f"the features vary too much for model.regularization={regularization:g}. Enlarge it, or choose other layers."
            )
        part.copy_(torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False))
    return scatter
