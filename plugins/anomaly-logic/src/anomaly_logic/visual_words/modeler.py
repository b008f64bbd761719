"""VisualWordsModeler: a frozen backbone and visual words, as a run drives them. How it scores: ``model.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import ConfigError, DataError, InputSpec, MemoryModeler, ModelContext, Prediction
from anomaly_features import ExtractorModeler, FeatureExtractor
from anomaly_logic.visual_words.config import VisualWordsConfig
from anomaly_logic.visual_words.model import VisualWordsModel

if TYPE_CHECKING:
    from accelerate import Accelerator

GREATEST = 65504.0  # of float16


class VisualWordsModeler(ExtractorModeler, MemoryModeler):
    """Visual words behind the core's interface.

    Features are kept until all images were seen, in float16: about 0.4 MB an image with the preset ``edge``.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: a backbone or a layer that does not exist, or several categories at once: counts of different products
            have no common Gaussian.
        BackboneError: no source has the weights.
    """

    config: VisualWordsConfig
    fewest_images = 4  # deviations among fewer say nothing
    leaves_out = 1

    def __init__(self, config: VisualWordsConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        if len(self.context.categories) > 1:
            raise ConfigError(
                f"visual_words learns how many of which parts one product has, not {len(self.context.categories)} at once "
                f"({', '.join(self.context.categories)}). Leave out --unified (data.unified): each category then gets a run."
            )
        extractor = FeatureExtractor(config.backbone, config.layers, config.weights(self.context), config)
        self.extractor, self._strides = extractor, extractor.strides
        self.input_spec = InputSpec.from_config(config, extractor.mean, extractor.std)
        self.model = VisualWordsModel(
            extractor.channels,
            config.words,
            config.softness,
            config.regions,
            config.variance,
            config.top,
            config.sigma,
        )
        self._collected: list[list[Tensor]] = []  # of each batch its layers, float16

    def embed(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) in [0, 1] -> one (B, C, h, w) a layer, in cells of ``config.cell`` pixels or larger ones."""
        layers = []
        for features, stride in zip(self.feature_maps(images), self._strides, strict=True):
            step = max(1, self.config.cell // stride)
            layers.append(F.avg_pool2d(features, step, ceil_mode=True) if step > 1 else features)
        return layers

    def collect(self, images: Tensor) -> None:
        layers = self.embed(images)
        finite = torch.stack([layer.flatten(1).isfinite().all(dim=1) for layer in layers]).all(dim=0)
        if not finite.all():
            raise DataError(
                f"visual_words: the features of {int((~finite).sum())} of {len(images)} images hold NaN or infinity. "
                "Check the images and the backbone's weights."
            )
        self._collected.append([layer.clamp(-GREATEST, GREATEST).half().cpu() for layer in layers])

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        device, mine = self.model.offsets.device, sum(len(layers[0]) for layers in self._collected)
        if not mine:  # more processes than images: this one takes part with nothing
            self.collect(torch.zeros(1, 3, *self.input_spec.output_size, device=device))
        counts = accelerator.gather(torch.tensor([mine], device=device))
        gathered = []
        for layer in self._joined():
            every = accelerator.gather(accelerator.pad_across_processes(layer.to(device)))
            parts = every.split(len(every) // accelerator.num_processes)
            gathered.append(torch.cat([part[:count].cpu() for part, count in zip(parts, counts.tolist(), strict=True)]))
        self._collected = [gathered]

    def build(self) -> None:
        if not self._collected:
            raise DataError("visual_words saw no training image: there is nothing to fit. Check data.root and data.category.")
        if (images := sum(len(layers[0]) for layers in self._collected)) < self.fewest_images:
            raise DataError(
                f"visual_words needs {self.fewest_images} training images or more, as it judges by how much they differ, and "
                f"saw {images}. Add normal images, or lower data.holdout."
            )
        layers, self._collected = self._joined(), []
        self.model.fit(layers)

    def _joined(self) -> list[Tensor]:
        """The layers of all collected images; what was collected is freed as it goes."""
        joined = [torch.cat([layers[number] for layers in self._collected]) for number in range(len(self.config.layers))]
        self._collected = []
        return joined

    def predict_step(self, images: Tensor) -> Prediction:
        return Prediction(*self.model(self.embed(images), (images.shape[-2], images.shape[-1])))

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        return Prediction(*self.model.scored(self.embed(images), (images.shape[-2], images.shape[-1]), without=True))

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """``held_out_score``: the mean score; below 3 where held-out images are like those that it was fitted on."""
        scores, _ = self.model(self.embed(images), (images.shape[-2], images.shape[-1]))
        return {"held_out_score": scores.mean()}

    def describe(self) -> dict[str, float]:
        return {
            "words": float(sum(len(each.words) for each in self.model.vocabularies)),
            "measures": float(len(self.model.offsets)),
            "surface_axes": float(len(self.model.surface.axes)),
            "fitted_images": float(self.model.images),
        }
