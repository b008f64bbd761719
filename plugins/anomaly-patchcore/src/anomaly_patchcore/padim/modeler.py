"""PaDiMModeler: a frozen backbone and PaDiM's Gaussians, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_core import DataError, InputSpec, MemoryModeler, ModelContext, Prediction
from anomaly_features import ExtractorModeler, FeatureExtractor
from anomaly_patchcore.padim.config import PaDiMConfig
from anomaly_patchcore.padim.extending import reopened
from anomaly_patchcore.padim.model import PaDiMModel, locations
from anomaly_patchcore.padim.moments import Moments

if TYPE_CHECKING:
    from accelerate import Accelerator


class PaDiMModeler(ExtractorModeler, MemoryModeler):
    """PaDiM behind the core's interface.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: a backbone or a layer that does not exist, or more features than the layers have channels.
        BackboneError: no source has the weights.
    """

    config: PaDiMConfig
    fewest_images = 2  # a covariance has no meaning for one
    leaves_out = 1

    def __init__(self, config: PaDiMConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        # drawn before anything else, so that the same seed gives the same channels whatever is built or loaded in between
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        self.extractor = FeatureExtractor(config.backbone, config.layers, config.weights(self.context), config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        self.model = PaDiMModel(
            self.extractor.channels, config.n_features, config.regularization, config.sigma, generator=generator
        )
        self._grid = (0, 0)
        self._moments: Moments | None = None

    def embed(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1] -> (B, D, h, w), the vectors of every location."""
        return self.model.embed(self.feature_maps(images))

    def collect(self, images: Tensor) -> None:
        embedding = self.embed(images)
        finite = embedding.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            raise DataError(
                f"PaDiM: the features of {int((~finite).sum())} of {len(images)} images hold NaN or infinity. "
                "Check the images and the backbone's weights."
            )
        self._gathered(embedding).add(locations(embedding))

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        if self._moments is None:  # more processes than images: this one takes part with nothing
            blank = torch.zeros(1, 3, *self.input_spec.output_size, device=self.model.selected.device)
            self._gathered(self.embed(blank))
        assert self._moments is not None
        self._moments.merge(accelerator)

    def build(self) -> None:
        if self._moments is None:
            raise DataError("PaDiM saw no training image, so that there is nothing to fit. Check data.root and data.category.")
        moments, self._moments = self._moments, None
        dim = len(self.model.selected)
        if 2 <= moments.count <= dim:
            warnings.warn(
                f"PaDiM saw {moments.count} images, no more than its {dim} features: such a covariance has no inverse of its "
                f"own and rests on model.regularization={self.config.regularization:g}. Add normal images, or lower "
                "model.n_features.",
                stacklevel=2,
            )
        self.model.build(moments, self._grid)

    def reopen(self) -> None:
        """The Gaussians become moments again (:func:`~.extending.reopened`): until :meth:`build`, nothing can be scored."""
        self.model.require_fitted()
        height, width = self.model.mean.shape[:2]
        self._grid, self._moments = (height, width), reopened(self.model)

    def _gathered(self, embedding: Tensor) -> Moments:
        """The moments so far; those of the embedding's grid to begin with."""
        if self._moments is None:
            _, dim, height, width = embedding.shape
            self._grid, self._moments = (height, width), Moments(height * width, dim, embedding.device)
        return self._moments

    def predict_step(self, images: Tensor) -> Prediction:
        scores, maps = self.model(self.feature_maps(images), (images.shape[-2], images.shape[-1]))
        return Prediction(scores, maps)

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        scores, maps = self.model.score(self.model.distances_without(self.embed(images)), (images.shape[-2], images.shape[-1]))
        return Prediction(scores, maps)

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """``held_out_distance``: the mean Mahalanobis distance of all locations; about sqrt(D) where the Gaussians fit."""
        distances = self.model.distances(self.embed(images))
        return {"held_out_distance": distances.mean(), "held_out_greatest_distance": distances.amax(dim=(1, 2)).mean()}

    def describe(self) -> dict[str, float]:
        height, width, dim = self.model.mean.shape
        return {
            "embedding_dim": float(dim),
            "locations": float(height * width),
            "fitted_images": float(self.model.images),
        }
