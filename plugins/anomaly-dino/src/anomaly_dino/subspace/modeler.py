"""SubspaceModeler: a frozen backbone and SubspaceAD's subspace, as a run drives them. Deviations: see ``model.py``."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, ModelContext, Prediction, RunError
from anomaly_dino.foreground import foreground_mask
from anomaly_dino.patches import PatchModeler
from anomaly_dino.rotation import rotated
from anomaly_dino.subspace.config import SubspaceConfig
from anomaly_dino.subspace.kernel import KernelSubspace
from anomaly_dino.subspace.model import SubspaceModel
from anomaly_dino.subspace.moments import GatheredMoments

if TYPE_CHECKING:
    from accelerate import Accelerator

FEW, ROTATIONS, LARGEST_ANGLE = 16, 30, 345.0
UPRIGHT = frozenset({"transistor"})  # the original turns all categories but this one
CUBES = 4e10  # images times D^3 whose eigenvectors are worth the wait: half a minute on one core


class SubspaceModeler(PatchModeler):
    """SubspaceAD behind the core's interface.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: a backbone or a layer that does not exist, an option that would be ignored, an even size.
        BackboneError: no source has the weights.
    """

    config: SubspaceConfig

    def __init__(self, config: SubspaceConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        if config.blur_size is not None and config.blur_size % 2 == 0:
            raise ConfigError(f"model.blur_size={config.blur_size} is even: a Gaussian needs a centre. Choose 3, 5, 7, ...")
        if config.kernel == "rbf" and (config.score != "reconstruction" or config.drop_k):
            raise ConfigError("model.kernel=rbf has a score of its own: leave model.score and model.drop_k out.")
        # drawn before anything else of the run is, so that angles do not depend on what is built in between
        self._generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        self.model = SubspaceModel(
            config.variance,
            config.pca_dim,
            config.score,
            config.drop_k,
            config.sigma,
            config.blur_size,
            config.image_score,
            KernelSubspace(config.variance, config.pca_dim) if config.kernel == "rbf" else None,
        )
        self._drawn: tuple[Tensor, Tensor] | None = None  # patches for kernel PCA, and the random number of each
        self._moments: GatheredMoments | None = None
        self._extends = False

    @property
    def rotations(self) -> int:
        """Turned copies that are learnt of each image; those that are added later have as many as the first ones."""
        if self._extends:
            return int(self.model.copies)
        if self.config.rotations is not None:
            return self.config.rotations
        few = not self.config.batched and (self.expected is None or self.expected <= FEW)
        return ROTATIONS if few and not UPRIGHT.intersection(self.context.categories) else 0

    def collect(self, images: Tensor) -> None:
        if self._moments is None:
            self._moments = GatheredMoments(self.expected)
        for image, patches in zip(images, self.finite_patches(images), strict=True):
            of_image = [self._kept(patches[None])]
            if self.rotations:
                angles = torch.rand(self.rotations, generator=self._generator) * LARGEST_ANGLE
                copies = rotated(image.expand(self.rotations, -1, -1, -1), angles, mode="nearest", border="zeros")
                of_image.append(self._kept(self.finite_patches(copies)))
            rows = torch.cat(of_image)
            self._moments.add(rows)
            if self.model.kernel is not None:
                self._draw(rows)

    def _draw(self, rows: Tensor) -> None:
        """Keep those patches of all so far that have the greatest random numbers."""
        numbers = torch.rand(len(rows), generator=self._generator).to(rows.device)
        if self._drawn is not None:
            rows, numbers = torch.cat([self._drawn[0], rows]), torch.cat([self._drawn[1], numbers])
        kept = numbers.topk(min(len(numbers), self.config.kernel_patches)).indices.sort().values
        self._drawn = rows[kept], numbers[kept]

    def _kept(self, patches: Tensor) -> Tensor:
        """(B, D, h, w) -> (N, D): all of them, or those of the object."""
        rows = patches.flatten(2).transpose(1, 2)
        return rows[foreground_mask(patches).flatten(1)] if self.config.foreground else rows.flatten(0, 1)

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        if self.model.kernel is not None:
            raise RunError("model.kernel=rbf is fitted in one process. Leave --devices out, or set model.kernel=linear.")
        moments = self._moments = self._moments or GatheredMoments(self.expected)
        dim = self.patches(torch.zeros(1, 3, *self.input_spec.output_size, device=self.model.mean.device)).shape[1]
        moments.merge(accelerator, dim, self.model.mean.device)

    def build(self) -> None:
        if self._moments is None or self._moments.total is None:
            raise DataError(
                "SubspaceAD saw no training image, so that there is nothing to fit. Check data.root and data.category."
            )
        self.model.copies = torch.tensor(self.rotations, device=self.model.copies.device)
        if self.model.kernel is None:
            self.model.build(self._moments.total)
        elif self._drawn is not None:
            self.model.kernel.build(self._drawn[0])
            self._drawn = None

    def reopen(self) -> None:
        """The subspace becomes moments again, to which images are added."""
        if self.model.kernel is not None:
            raise RunError("kernel PCA cannot be extended. Fit it anew on all images, or set model.kernel=linear.")
        self._moments, self._extends = GatheredMoments(None, self.model.reopened()), True

    @property
    def leaves_out(self) -> float:  # type: ignore[override]  # depends on the images
        """Any number of images, if others remain and a subspace for each is soon found."""
        moments = self._moments
        if moments is None or not moments.separable or self.model.kernel is not None:
            return 0
        return math.inf if moments.images * len(self.model.mean) ** 3 <= CUBES else 0

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        assert self._moments is not None
        parts, patches, size = [], self.patches(images), (images.shape[-2], images.shape[-1])
        for _, run in groupby(range(len(images)), key=lambda i: id(numbers[i])):
            rows = list(run)
            rest = self._moments.without(numbers[rows[0]].tolist())
            if rest.count < 2:
                raise DataError(
                    "without this image SubspaceAD has none to fit on. Add normal images, or set base.calibration=holdout."
                )
            model = copy.copy(self.model)  # its buffers are replaced, not written into
            model._buffers = dict(self.model._buffers)
            model.build(rest)
            parts.append(Prediction(*model(patches[rows], size, self._mask(patches[rows]))))
        return Prediction.joined(parts)

    def predict_step(self, images: Tensor) -> Prediction:
        patches = self.patches(images)
        return Prediction(*self.model(patches, (images.shape[-2], images.shape[-1]), self._mask(patches)))

    def _mask(self, patches: Tensor) -> Tensor | None:
        return foreground_mask(patches) if self.config.foreground else None

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """``held_out_residual``: the mean score of all patches of unseen normal images."""
        return {"held_out_residual": self.model.patch_scores(self.patches(images)).mean()}

    def describe(self) -> dict[str, float]:
        model = self.model
        if model.kernel is not None:
            count, dim = model.kernel.patches.shape
            rank = float(model.kernel.weights.shape[1])
            return {"subspace_dim": rank, "embedding_dim": float(dim), "kernel_patches": float(count)}
        kept = model.variances[: model._rank].sum() / model.variances.sum()
        return {
            "subspace_dim": float(model.rank),
            "embedding_dim": float(len(model.mean)),
            "subspace_variance": float(kept),
            "fitted_patches": float(model.count),
        }
