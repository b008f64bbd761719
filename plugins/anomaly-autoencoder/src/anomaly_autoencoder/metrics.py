"""PSNR, SSIM and LPIPS of a category: the mean over all its test images, normal and anomalous."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_autoencoder.functional import SMALLEST_LPIPS, WINDOW, lpips, psnr, ssim
from anomaly_core import BaseMetric, Batch, Calibration, Prediction, UndefinedMetric
from anomaly_features import BackboneError, Backbones

if TYPE_CHECKING:
    from lpips import LPIPS as PerceptualNetwork  # type: ignore[import-untyped]  # ships no annotations


BLOCK = 1024  # pixels a side that a reconstruction is measured in


class ReconstructionMetric(BaseMetric):
    """Gathers a value for each image that was reconstructed; the smallest side that has one is ``smallest``.

    A large image is measured in blocks, each as an image of its own: to compare it at once would take many times its memory.
    """

    name = ""
    smallest = 1

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._values: list[Tensor] = []
        self._reason = "the method reconstructs nothing"
        self._cause: BackboneError | None = None

    @abstractmethod
    def measure(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """One value for each pair of float32 (B, 3, H, W) in [0, 1]."""

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if prediction.reconstruction is None:
            return
        height, width = batch.images.shape[-2:]
        if min(height, width) < self.smallest:
            self._reason = (
                f"images of {height}x{width} are too small: {self.name} needs {self.smallest} pixels a side. "
                "Enlarge model.image_size"
            )
            return
        for rows, columns in product(_spans(height), _spans(width)):
            self._values.append(self.measure(prediction.reconstruction[..., rows, columns], batch.images[..., rows, columns]))

    def compute(self) -> float:
        if not self._values:
            raise UndefinedMetric(self._reason) from self._cause
        return float(torch.cat(self._values).double().mean())


def _spans(length: int) -> list[slice]:
    """One side in blocks of equal length; the last ones overlap, so that all are whole."""
    count = -(-length // BLOCK)
    side = min(length, BLOCK)
    starts = [min(number * BLOCK, length - side) for number in range(count)]
    return [slice(start, start + side) for start in starts]


class PSNR(ReconstructionMetric):
    """Peak signal-to-noise ratio in dB."""

    name = "PSNR"

    def measure(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        return psnr(reconstruction, images)

    def compute(self) -> float:
        value = super().compute()
        if math.isinf(value):
            values = torch.cat(self._values)
            raise UndefinedMetric(
                f"{int(values.isinf().sum())} of {len(values)} images are reconstructed exactly, so that their PSNR is infinite"
            )
        return value


class SSIM(ReconstructionMetric):
    """Structural similarity."""

    name = "SSIM"
    smallest = WINDOW

    def measure(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        return ssim(reconstruction, images)


class LPIPS(ReconstructionMetric):
    """Learned perceptual distance; lower is better.

    Its network is looked for when the first reconstruction comes. Weights that are nowhere to be found leave the metric
    undefined, with the places that were searched as the reason: a run that was trained is not lost for them.
    """

    name = "LPIPS"
    smallest = SMALLEST_LPIPS

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._network: PerceptualNetwork | None = None
        self._missing = False

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if self._missing:
            return
        try:
            super().update(batch, prediction)
        except BackboneError as error:
            self._missing, self._reason, self._cause = True, str(error), error

    def measure(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        if self._network is None:
            from anomaly_autoencoder.perceptual import perceptual_network  # torchvision comes with it, only where it is used

            self._network = perceptual_network(Backbones())
        with torch.no_grad():
            return lpips(reconstruction, images, self._network)
