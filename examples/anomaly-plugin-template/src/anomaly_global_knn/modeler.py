"""GlobalKNNModeler: the mean feature of every normal image, and how far a new one is from its nearest neighbours.

Paper: Bergman, Cohen and Hoshen, "Deep Nearest Neighbor Anomaly Detection", 2020, https://arxiv.org/abs/2002.10445

Deviations: several layers may be joined, and features have unit length, so that no layer outweighs another.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import DataError, InputSpec, MemoryModeler, ModelContext, Prediction
from anomaly_features import ExtractorModeler, FeatureExtractor
from anomaly_global_knn.config import GlobalKNNConfig


class GlobalKNNModeler(ExtractorModeler, MemoryModeler):
    """A frozen backbone and a bank of one vector for each normal image; it draws no map."""

    config: GlobalKNNConfig
    bank: Tensor

    def __init__(self, config: GlobalKNNConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.extractor = FeatureExtractor(config.backbone, config.layers, config.weights(self.context), config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        self.register_buffer("bank", torch.zeros(0, sum(self.extractor.channels)))  # takes its shape when fitted or loaded
        self._collected: list[Tensor] = []

    def embed(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) images in [0, 1] -> (B, D): each layer's spatial mean, of unit length."""
        return torch.cat([F.normalize(maps.mean(dim=(2, 3)), dim=1) for maps in self.extractor(images)], dim=1)

    def collect(self, images: Tensor) -> None:
        self._collected.append(self.embed(images))

    def build(self) -> None:
        if not self._collected:
            raise DataError("global kNN saw no training image. Check data.root and data.category.")
        self.bank = torch.cat(self._collected)
        self._collected.clear()

    def reopen(self) -> None:
        self._collected = [self.bank]  # it holds every image, so that more can join

    def predict_step(self, images: Tensor) -> Prediction:
        difference = self.embed(images)[:, None] - self.bank[None]  # (B, 1, D) - (1, N, D) -> (B, N, D)
        distances = difference.square().sum(dim=2).sqrt()
        nearest = distances.topk(min(self.config.neighbours, self.bank.shape[0]), largest=False).values
        return Prediction(nearest.mean(dim=1))

    def describe(self) -> dict[str, float]:
        return {"bank_size": float(len(self.bank))}
