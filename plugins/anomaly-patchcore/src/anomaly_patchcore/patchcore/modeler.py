"""PatchCore as the core sees it: a frozen extractor, the patches that it collects, and the bank."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from anomaly_core.backbones import Backbones, FeatureExtractor
from anomaly_core.base.modeler import MemoryModeler
from anomaly_core.errors import AnomalyError, ConfigError
from anomaly_core.inputs import InputSpec
from anomaly_core.types import Prediction
from torch import Tensor

from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.model import PatchCoreModel


class PatchCoreModeler(MemoryModeler):
    """Collects the patches of normal images and keeps a coreset of them."""

    def __init__(self, config: PatchCoreConfig, backbones: Backbones | None = None) -> None:
        super().__init__(config)
        if config.patch_size % 2 == 0:
            raise ConfigError(f"model.patch_size={config.patch_size} is even. Choose an odd number, such as 3.")
        self.extractor = FeatureExtractor(config.backbone, config.layers, backbones)
        self.model = PatchCoreModel(
            config.patch_size,
            config.pretrain_dim,
            config.target_dim,
            config.neighbors,
            config.reweight,
            config.reweight_neighbors,
            config.sigma,
        )
        self.coreset_ratio = config.coreset_ratio
        self.projection_dim = config.projection_dim
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        self._collected: list[Tensor] = []

    def collect(self, images: Tensor) -> None:
        self._collected.append(self.model.embed(self.extractor(images)).flatten(0, 2))  # (B, H, W, D) -> (B*H*W, D)

    def merge(self, accelerator: Accelerator) -> None:
        patches = torch.cat(self._collected)
        sizes = accelerator.gather(torch.tensor([len(patches)], device=patches.device))
        gathered = accelerator.gather(accelerator.pad_across_processes(patches)).split(int(sizes.max()))
        self._collected = [part[: int(size)] for part, size in zip(gathered, sizes, strict=True)]

    def build(self) -> None:
        if not self._collected:
            raise AnomalyError("PatchCore was asked to build its memory bank before it saw an image. Fit it on normal images first.")
        patches = torch.cat(self._collected)
        self._collected = []
        self.model.build(patches, max(1, int(len(patches) * self.coreset_ratio)), self._project(patches))

    def _project(self, patches: Tensor) -> Tensor | None:
        """The seed's random projection, in which distances are cheaper and nearly kept (Johnson-Lindenstrauss)."""
        if self.projection_dim is None or self.projection_dim >= patches.shape[1]:
            return None
        matrix = torch.randn(patches.shape[1], self.projection_dim).to(patches) / self.projection_dim**0.5
        return patches @ matrix

    def predict_step(self, images: Tensor) -> Prediction:
        height, width = images.shape[-2:]
        scores, maps = self.model(self.extractor(images), (height, width))
        return Prediction(scores, maps)

    def describe(self) -> dict[str, float]:
        return {"memory_bank_size": float(len(self.model.memory_bank)), "coreset_radius": float(self.model.radius)}
