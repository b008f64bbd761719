"""EfficientAD's network part: a student that imitates a teacher and an autoencoder, and the maps of where it fails to.

Paper: Batzner, Heckler and König, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV 2024,
https://arxiv.org/abs/2303.14535
Code: there is no official one. https://github.com/nelson1425/EfficientAD (Apache-2.0), commit fcab514, reports the paper's
figures; agrees with it on features, statistics, losses, gradients, quantiles, maps and scores.

Deviations:
- ``model.teacher=features`` has no distilled teacher, but the features themselves that teachers learn to give; and the size XS
  is our own. Neither is the paper's, and a run with such a teacher, or one of your own, says so.
- The paper's penalty on images of ImageNet is off unless ``model.penalty_images`` names a folder, as in that code.
- Images of other sizes than 256 pixels, and batches: the hard loss has the quantile of each image, averaged over the batch.
- The score is the greatest value of the map at the model's input size; there, of the map at the image's own size.
- Without held-out normal images, the two maps cannot be brought to one scale: they are added as they are, and the run says so.
- Brightness, contrast and saturation change on numbers in [0, 1]; there, on pixels of 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_distillation.efficientad.networks import BORDER, Shape, autoencoder, patch_description_network
from anomaly_features import upsample

QUANTILES = (0.9, 0.995)  # of the maps of normal images, which become 0 and 0.1
LEAST = 1e-6  # of what is divided by


class EfficientADModel(nn.Module):
    """Teacher, student and autoencoder.

    Args:
        shape: of the networks.
        size: (H, W) of the images.
        teacher: normalised images to (B, shape.features, h, w); None: a patch description network, whose owner loads its
            weights.

    Attributes:
        teacher: never trained here.
        teacher_mean, teacher_std: (1, C, 1, 1), of the teacher's channels on the training images (:func:`channel_statistics`).
        quantiles: (2, 2): a row each for the student's and the autoencoder's map, values that become 0 and 0.1.
    """

    teacher_mean: Tensor
    teacher_std: Tensor
    quantiles: Tensor

    def __init__(self, shape: Shape, size: tuple[int, int], teacher: nn.Module | None = None) -> None:
        super().__init__()
        self.features = shape.features
        self.teacher = (teacher or patch_description_network(shape, shape.features)).requires_grad_(False)
        self.student = patch_description_network(shape, 2 * shape.features)
        self.autoencoder = autoencoder(shape, size)
        self.register_buffer("teacher_mean", torch.zeros(1, shape.features, 1, 1))
        self.register_buffer("teacher_std", torch.ones(1, shape.features, 1, 1))
        self.register_buffer("quantiles", torch.tensor([[0.0, 0.1], [0.0, 0.1]]))  # these change nothing

    def taught(self, images: Tensor) -> Tensor:
        """What the teacher says of normalised images (B, 3, H, W): (B, C, h, w), each channel of mean 0 and spread 1."""
        with torch.no_grad():
            described: Tensor = self.teacher(images)
            return (described - self.teacher_mean) / self.teacher_std

    def losses(
        self, images: Tensor, altered: Tensor, penalty: Tensor | None = None, hard_quantile: float = 0.999
    ) -> dict[str, Tensor]:
        """``loss`` and its parts, means over the batch.

        Args:
            images: normalised, (B, 3, H, W), for the student.
            altered: the same, of changed colours, for the autoencoder, and for the student to imitate it.
            penalty: images of anything, of which the student shall say nothing; None: no such term.
            hard_quantile: see :func:`hard_loss`.
        """
        student, other = self.student(images)[:, : self.features], self.student(altered)[:, self.features :]
        hard = hard_loss((self.taught(images) - student).square(), hard_quantile)
        rebuilt = self.autoencoder(altered)
        losses = {
            "loss_hard": hard,
            "loss_autoencoder": (self.taught(altered) - rebuilt).square().mean(),
            "loss_student_autoencoder": (rebuilt - other).square().mean(),
        }
        if penalty is not None:
            losses["loss_penalty"] = self.student(penalty)[:, : self.features].square().mean()
        return {"loss": torch.stack([*losses.values()]).sum(), **losses}

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw maps (B, 1, h, w): how far the student is from the teacher, and the autoencoder from the student."""
        student = self.student(images)
        local = (self.taught(images) - student[:, : self.features]).square().mean(dim=1, keepdim=True)
        of_whole = (self.autoencoder(images) - student[:, self.features :]).square().mean(dim=1, keepdim=True)
        return local, of_whole

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to maps (B, 1, h, w): 0 is the 0.9 quantile of normal images, 0.1 the 0.995 one."""
        scaled = [
            0.1 * (part - low) / (high - low).clamp_min(LEAST)
            for part, (low, high) in zip(self.maps(images), self.quantiles, strict=True)
        ]
        combined: Tensor = (scaled[0] + scaled[1]) / 2
        return combined


def hard_loss(errors: Tensor, share: float = 0.999) -> Tensor:
    """The mean of each image's greatest errors, those at or above their quantile: (B, C, h, w) to a scalar."""
    flat = errors.float().flatten(1)
    limits = torch.stack([quantile(image, share) for image in flat.detach()])
    return torch.stack([image[image >= limit].mean() for image, limit in zip(flat, limits, strict=True)]).mean()


def quantile(values: Tensor, share: float) -> Tensor:
    """As ``torch.quantile`` (linear) of (n,) values, which refuses more than 16 million of them in most versions."""
    place = share * (len(values) - 1)
    low = int(place)
    ranks = [low, min(low + 1, len(values) - 1)]
    if values.device.type == "cpu":  # torch's own selection takes hours where values are in an unlucky order
        lower, upper = torch.from_numpy(np.partition(values.numpy(), ranks)[ranks])
    else:
        lower, upper = values.sort().values[ranks]
    return torch.lerp(lower, upper, place - low)


def channel_statistics(features: Iterable[Tensor], channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (population) of each channel of batches (B, C, h, w); float32 (1, C, 1, 1) on the CPU."""
    total, squares, count = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64), 0
    for batch in features:
        values = batch.cpu().double()  # which Apple's GPUs do not have
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
        count += values[:, 0].numel()
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(LEAST**2).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)


def whole_map(maps: Tensor, size: tuple[int, int], border: str = "zeros") -> Tensor:
    """Maps (B, 1, h, w), with a border where no whole patch is seen, of zeros or of their own ``edge``, to (B, 1, *size)."""
    sides = (BORDER,) * 4
    return upsample(F.pad(maps, sides) if border == "zeros" else F.pad(maps, sides, mode="replicate"), size)
