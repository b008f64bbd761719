"""MuScModeler: a frozen backbone and MuSc's mutual scores, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import ConfigError, DataError, InputSpec, MemoryModeler, ModelContext, Prediction, RunError
from anomaly_features import ExtractorModeler, FeatureExtractor, TransformerExtractor, is_transformer
from anomaly_zeroshot.musc.config import MuScConfig
from anomaly_zeroshot.musc.model import MuScModel, normalised

if TYPE_CHECKING:
    from accelerate import Accelerator


class MuScModeler(ExtractorModeler, MemoryModeler):
    """MuSc behind the core's interface: what it collects are the images that it is to judge, of which nothing is known.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: a neighbourhood of an even side, an interval that is none, a backbone or a layer that does not exist.
        BackboneError: no source has the weights.
    """

    config: MuScConfig
    extractor: FeatureExtractor | TransformerExtractor
    transductive = True
    fewest_images = 5  # of fewer, 30 % of the others are none

    def __init__(self, config: MuScConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        if even := [r for r in config.neighbourhoods if r % 2 == 0]:
            raise ConfigError(f"model.neighbourhoods has {even[0]}: a window needs a patch as its centre. Choose 1, 3, 5, ...")
        if config.lowest[0] >= config.lowest[1]:
            raise ConfigError(
                f"model.lowest={config.lowest[0]:g},{config.lowest[1]:g} is no interval. Give its ends, the smaller one first."
            )
        # drawn before anything else, so that the same seed draws the same images whatever is built or loaded in between
        self._draw = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        weights, size = config.weights(self.context), InputSpec.from_config(config).output_size
        if is_transformer(config.backbone):
            options = {"norm": False, "embedding": bool(config.rscin)}
            self.extractor = TransformerExtractor(config.backbone, config.layers, size, weights, config, **options)
        else:
            self.extractor = FeatureExtractor(config.backbone, config.layers, weights, config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        dtype: torch.dtype = getattr(torch, config.store)
        self.model = MuScModel(len(config.layers), config.neighbourhoods, config.lowest, config.rscin, dtype)
        self._seen = 0
        self._collected: list[list[Tensor]] = []  # of each image its maps and embedding

    def embed(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """float32 (B, 3, H, W) in [0, 1] -> the layers' normalised maps, and with ``rscin`` (B, D) embeddings of length 1."""
        features = self.feature_maps(images)
        maps = [normalised(level) for level in features[: self.model.layers]]
        if not self.config.rscin:
            return maps, None
        pooled = features[-1] if len(features) > len(maps) else features[-1].mean(dim=(2, 3))
        return maps, F.normalize(pooled.float(), dim=1)

    def collect(self, images: Tensor) -> None:
        maps, embeddings = self.embed(images)
        finite = torch.stack([level.flatten(1).isfinite().all(dim=1) for level in maps]).all(dim=0)
        if not finite.all():
            raise DataError(
                f"MuSc: the features of {int((~finite).sum())} of {len(images)} images hold NaN or infinity. "
                "Check the images and the backbone's weights."
            )
        stored = [level.to(getattr(torch, self.config.store)) for level in maps]
        most = self.config.most_images
        for number in range(len(images)):
            parts = [level[number].clone() for level in stored] + ([] if embeddings is None else [embeddings[number].clone()])
            self._seen += 1
            if most is None or len(self._collected) < most:
                self._collected.append(parts)
            elif (place := int(torch.randint(self._seen, (1,), generator=self._draw))) < most:
                self._collected[place] = parts  # each image so far is kept as probably as any other (Vitter, 1985)

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        count = len(self._collected)
        if not count:  # more processes than images: this one takes part with nothing
            self.collect(torch.zeros(1, 3, *self.input_spec.output_size, device=self.model.raw.device))
        counts = accelerator.gather(torch.tensor([count], device=self.model.raw.device)).tolist()
        columns = []
        for column in self._stacked():
            parts = accelerator.gather(accelerator.pad_across_processes(column)).split(max(1, *counts))
            columns.append(torch.cat([part[:own] for part, own in zip(parts, counts, strict=True)]))
        most, total = self.config.most_images, sum(counts)
        kept = torch.arange(total)
        if most is not None and total > most:  # the same draw in all processes
            kept = torch.randperm(total, generator=torch.Generator().manual_seed(self._draw.initial_seed()))[:most]
        self._collected = [[column[number] for column in columns] for number in kept.tolist()]

    def build(self) -> None:
        if len(self._collected) < 2:
            raise DataError(
                f"MuSc compares unlabelled images with one another and was given {len(self._collected)}. Give 5 images or more."
            )
        columns = self._stacked()
        self._collected, self._seen = [], 0
        layers = self.model.layers
        self.model.build(columns[:layers], columns[layers] if len(columns) > layers else None, self.input_spec.output_size)

    def reopen(self) -> None:
        """Images that come later would change the scores of all: RunError."""
        raise RunError("MuSc scores images by one another: more of them change every score. Rank all of them anew.")

    def predict_step(self, images: Tensor) -> Prediction:
        maps, embeddings = self.embed(images)
        scores, anomaly_maps = self.model(maps, embeddings, (images.shape[-2], images.shape[-1]))
        return Prediction(scores, anomaly_maps)

    def describe(self) -> dict[str, float]:
        memory: Sequence[Tensor] = self.model.memory
        size = sum(level.numel() * level.element_size() for level in memory)
        return {"compared_images": float(len(memory[0])), "memory_mb": size / 1e6}

    def _stacked(self) -> list[Tensor]:
        """What was collected: each layer's maps (N, C, h, w), then the embeddings; each list is freed as it is stacked."""
        return [torch.stack([image[part] for image in self._collected]) for part in range(len(self._collected[0]))]
