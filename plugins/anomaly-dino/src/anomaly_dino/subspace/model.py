"""SubspaceAD's subspace: a principal component analysis of normal patches, and how far a patch lies beside it.

Paper: "SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling", CVPR 2026, https://arxiv.org/abs/2602.23013
Code: https://github.com/CLendering/SubspaceAD, commit 2ca687e

Deviations:
- With a foreground mask, mean and covariance are those of the patches that are kept. The original divides by the number of all
  patches, so that its mean shrinks towards zero.
- The residual is computed from the directions beside the subspace. It is the same number as the distance from the projection,
  without the digits that their difference loses.
- The moments are gathered in float64 image by image: memory does not grow with the images. The state is float32.
- With ``model.batched`` a subspace is fitted on the unlabelled images that it judges, each of them included, as in the
  original's batched zero-shot setting.
- Images are resized with antialiased bilinear interpolation, not bicubic. CLAHE and the original's tiling are left out: all
  methods here have ``data.tile``.
- Turned copies are drawn by the run's seed, and made of the resized image. The original turns it first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_core import ConfigError, DataError, RunError
from anomaly_dino.scores import ImageScore, image_scores
from anomaly_dino.subspace.kernel import KernelSubspace
from anomaly_dino.subspace.moments import Moments
from anomaly_features import upsample, upsample_smooth

EPSILON = 1e-6  # added to variances and norms, as in the original


class SubspaceModel(nn.Module):
    """From a grid of patches to scores; works with any features.

    Args:
        variance: share of the variance that the subspace keeps.
        pca_dim: its dimensions; None: as many as the share takes.
        score: ``reconstruction``, ``mahalanobis``, ``euclidean`` or ``cosine``.
        drop_k: first components that do not count to it.
        sigma, blur_size: of the Gaussian that smooths the map; a size of None is as wide as sigma takes.
        image_score: how the map becomes one number.
        kernel: scores patches by kernel PCA instead.

    Attributes:
        mean: float32 (D,), empty until :meth:`build`.
        basis: float32 (D, D): the principal directions as columns, of falling variance; empty until :meth:`build`.
        variances: float32 (D,): along each of them.
        rank: int64 (): how many of them span the subspace.
        count: int64 (): patches that it was built from.
        copies: int64 (): turned copies of each image that were among them.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    rank: Tensor
    count: Tensor
    copies: Tensor

    def __init__(
        self,
        variance: float = 0.99,
        pca_dim: int | None = None,
        score: str = "reconstruction",
        drop_k: int = 0,
        sigma: float = 4.0,
        blur_size: int | None = 3,
        image_score: ImageScore = "mtop1p",
        kernel: KernelSubspace | None = None,
    ) -> None:
        super().__init__()
        self.variance, self.pca_dim, self.kind, self.drop_k = variance, pca_dim, score, drop_k
        self.sigma, self.blur_size, self.image_score = sigma, blur_size, image_score
        self.kernel = kernel
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("basis", torch.empty(0, 0))
        self.register_buffer("variances", torch.empty(0))
        self.register_buffer("rank", torch.tensor(0))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("copies", torch.tensor(0))
        self._rank = 0  # of the buffers, as a number: an exported graph cannot ask a tensor

    def build(self, moments: Moments) -> None:
        """Find the subspace of all patches.

        Raises:
            DataError: there are fewer than two patches, or all are the same.
            ConfigError: ``pca_dim`` leaves no direction beside the subspace, or ``drop_k`` none in it.
        """
        device = self.mean.device
        values, vectors = torch.linalg.eigh(moments.covariance())
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        if moments.count < 2 or not float(values[0]) > 0:
            raise DataError(
                f"SubspaceAD saw {moments.count} patches without any variation, and has no subspace. Add normal images, or "
                "check that they are not blank."
            )
        dim = len(values)
        share = values.cumsum(0) / values.sum()
        self._rank = self.pca_dim or min(dim, int((share < self.variance).sum()) + 1)
        if self.kind in ("reconstruction", "cosine") and self._rank >= dim:
            raise ConfigError(
                f"a subspace of {self._rank} dimensions leaves nothing beside it: patches have {dim} features. Lower "
                f"{'model.pca_dim' if self.pca_dim else 'model.variance'}, or set model.score=mahalanobis."
            )
        if self.drop_k >= self._rank:
            raise ConfigError(
                f"model.drop_k={self.drop_k} drops all {self._rank} components of the subspace. Lower it, or raise "
                f"{'model.pca_dim' if self.pca_dim else 'model.variance'}."
            )
        self.mean = moments.mean().to(device, torch.float32)
        self.basis, self.variances = vectors.contiguous().to(device, torch.float32), values.to(device, torch.float32)
        self.rank, self.count = torch.tensor(self._rank, device=device), torch.tensor(moments.count, device=device)

    def reopened(self) -> Moments:
        """The moments that it was built from, to add to; exact but for the rounding of the state to float32."""
        self.require_fitted()
        basis, count = self.basis.double(), int(self.count)
        mean = self.mean.double()
        return Moments(mean, torch.zeros_like(mean), (basis * self.variances.double()) @ basis.T * (count - 1), count)

    def require_fitted(self) -> None:
        """Raise RunError without a subspace."""
        if not self.mean.numel():
            raise RunError("SubspaceAD has no subspace yet. Fit it first, or load a finished run.")

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._rank = int(self.rank)

    def patch_scores(self, patches: Tensor) -> Tensor:
        """float32 (B, D, h, w) -> (B, h, w), by ``score``."""
        dim, height, width = (int(side) for side in patches.shape[1:])
        flat = patches.flatten(2).transpose(1, 2).reshape(-1, dim)  # (B * h * w, D)
        with torch.autocast(patches.device.type, enabled=False):
            scores: Tensor = self._scores(flat.float()) if self.kernel is None else self.kernel(flat.float())
            return scores.view(-1, height, width)

    def _scores(self, patches: Tensor) -> Tensor:
        """(N, D) -> (N,)."""
        self.require_fitted()
        centred, inside = patches - self.mean, self.basis[:, self.drop_k : self._rank]
        if self.kind == "reconstruction":
            beside = torch.cat([self.basis[:, : self.drop_k], self.basis[:, self._rank :]], dim=1)
            return (centred @ beside).square().sum(dim=1)
        within = centred @ inside
        if self.kind == "cosine":
            projection = within @ inside.T + self.mean
            first, second = (torch.linalg.vector_norm(part, dim=1) + EPSILON for part in (patches, projection))
            cosine: Tensor = (patches * projection).sum(dim=1) / (first * second)
            return 1 - cosine
        squared = within.square()
        if self.kind == "mahalanobis":
            squared = squared / (self.variances[self.drop_k : self._rank] + EPSILON)
        return squared.sum(dim=1)

    def maps(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h, w) scores of patches -> (B, 1, *size), enlarged and smoothed."""
        if not self.sigma or self.blur_size is None:
            return upsample_smooth(scores[:, None], size, self.sigma)
        return small_blur(upsample(scores[:, None], size), self.sigma, self.blur_size)

    def forward(self, patches: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Patches (B, D, h, w) to image scores (B,) and maps (B, 1, *size); patches outside a mask (B, h, w) score 0."""
        scores = self.patch_scores(patches)
        maps = self.maps(scores if mask is None else scores * mask, size)
        return image_scores(maps, self.image_score), maps


def small_blur(maps: Tensor, sigma: float, side: int) -> Tensor:
    """A Gaussian cut to ``side`` pixels, with OpenCV's default border (the image mirrored at its outer pixels).

    Args:
        maps: float (B, 1, H, W); H and W greater than half the side.
        sigma: in pixels.
        side: odd.
    """
    offsets = torch.arange(side, device=maps.device, dtype=maps.dtype) - side // 2
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(maps, (side // 2,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
