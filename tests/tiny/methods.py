"""A method of each kind: Palette remembers colours, Mirror learns to reconstruct."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from anomaly_core import Batch, GradientModeler, InputSpec, MemoryModeler, ModelContext, Prediction
from tiny.config import MirrorConfig, PaletteConfig

FLOOR = 1e-3  # of the width of a range of colours, which is 0 where all images are of one colour


class Palette(MemoryModeler):
    """Remembers the darkest and the brightest colour of each normal image; a pixel is as odd as it is far from their middle."""

    leaves_out = math.inf
    config: PaletteConfig
    darkest: Tensor
    brightest: Tensor

    def __init__(self, config: PaletteConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.register_buffer("darkest", torch.empty(0, 3))
        self.register_buffer("brightest", torch.empty(0, 3))
        self._collected: list[tuple[Tensor, Tensor]] = []

    def collect(self, images: Tensor) -> None:
        self._collected.append((images.amin(dim=(2, 3)), images.amax(dim=(2, 3))))

    def build(self) -> None:
        darkest, brightest = (torch.cat(parts) for parts in zip(*self._collected, strict=True))
        count = math.ceil(self.config.share * len(darkest))
        self.darkest, self.brightest = darkest[:count], brightest[:count]
        self._collected = []

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        whole, parts = (self.darkest, self.brightest), []
        for image, lacking in zip(images, numbers, strict=True):
            kept = ~torch.isin(torch.arange(len(whole[0]), device=lacking.device), lacking)
            self.darkest, self.brightest = (part[kept] for part in whole)
            parts.append(self.predict_step(image[None]))
        self.darkest, self.brightest = whole
        return Prediction.joined(parts)

    def describe(self) -> dict[str, float]:
        return {"remembered_images": float(len(self.darkest))}

    def predict_step(self, images: Tensor) -> Prediction:
        low, high = (part.view(1, 3, 1, 1) for part in (self.darkest.amin(dim=0), self.brightest.amax(dim=0)))
        distance = (images - (low + high) / 2).abs() / ((high - low) / 2).clamp_min(FLOOR)
        blur = self.config.blur
        maps = F.avg_pool2d(distance.amax(dim=1, keepdim=True), 2 * blur + 1, 1, blur)  # (B, 3, H, W) -> (B, 1, H, W)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)


class Mirror(GradientModeler):
    """Reconstructs images through few channels; a pixel is as odd as it is badly reconstructed."""

    config: MirrorConfig

    def __init__(self, config: MirrorConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self.network = nn.Sequential(
            nn.Conv2d(3, config.width, 3, padding=1), nn.ReLU(), nn.Conv2d(config.width, 3, 3, padding=1), nn.Sigmoid()
        )

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (self.network(batch.images) - batch.images).square().mean()}

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        return Adam(self.parameters(), self.config.learning_rate), None

    def predict_step(self, images: Tensor) -> Prediction:
        reconstruction = self.network(images)
        maps = (reconstruction - images).square().mean(dim=1, keepdim=True)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps, reconstruction)
