"""PatchCoreModeler: a frozen backbone and PatchCore's memory, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_core.backbones import Backbones, FeatureExtractor
from anomaly_core.base.modeler import MemoryModeler
from anomaly_core.errors import ConfigError, DataError, RunError
from anomaly_core.inputs import InputSpec
from anomaly_core.types import Prediction
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.model import PatchCoreModel

if TYPE_CHECKING:
    from accelerate import Accelerator


class PatchCoreModeler(MemoryModeler):
    """PatchCore behind the core's interface.

    Args:
        config: its options.
        backbones: where the weights come from; None when a saved state follows.

    Raises:
        ConfigError: an even patch size, a backbone or a layer that does not exist.
        BackboneError: the weights are nowhere to be found.
    """

    config: PatchCoreConfig

    def __init__(self, config: PatchCoreConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config, backbones)
        if config.patch_size % 2 == 0:
            raise ConfigError(f"model.patch_size={config.patch_size} is even: a patch needs a centre. Choose 1, 3, 5, ...")
        # drawn before anything else, so that the same seed gives the same bank whatever is built or loaded in between
        self._seed = int(torch.randint(2**31, (1,)))
        self.extractor = FeatureExtractor(config.backbone, config.layers, backbones)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        self.model = PatchCoreModel(
            config.patch_size,
            config.pretrain_dim,
            config.target_dim,
            config.neighbors,
            config.reweight,
            config.reweight_neighbors,
            config.sigma,
        )
        self._collected: list[Tensor] = []

    def embed(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1] -> (B, h, w, D) patches."""
        return self.model.embed(self.extractor(images))

    def collect(self, images: Tensor) -> None:
        self._collected.append(self.embed(images).flatten(0, 2))

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        mine = self._patches()
        counts = accelerator.gather(torch.tensor([len(mine)], device=mine.device))
        padded = accelerator.gather(accelerator.pad_across_processes(mine))
        parts = padded.split(int(counts.max()))
        self._collected = [part[: int(count)] for part, count in zip(parts, counts, strict=True)]

    def build(self) -> None:
        patches = self._patches()
        self._collected = []
        generator = torch.Generator().manual_seed(self._seed)
        self.model.build(patches, self.config.coreset_ratio, self.config.projection_dim, generator)

    def _patches(self) -> Tensor:
        if not self._collected:
            raise DataError(
                "PatchCore saw no training image, so that there is nothing to remember. Check data.root and data.category."
            )
        return torch.cat(self._collected)

    def predict_step(self, images: Tensor) -> Prediction:
        if not len(self.model.memory_bank):
            raise RunError("PatchCore's memory bank is empty. Fit it first, or load a finished run.")
        scores, maps = self.model(self.extractor(images), (images.shape[-2], images.shape[-1]))
        return Prediction(scores, maps)

    def describe(self) -> dict[str, float]:
        size, dim = self.model.memory_bank.shape
        return {
            "memory_bank_size": float(size),
            "embedding_dim": float(dim),
            "coreset_radius": float(self.model.coreset_radius),
        }
