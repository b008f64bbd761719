"""Making a teacher: a patch description network learns to describe patches as a large network does.

As EfficientAD's teachers were made: the features of a network trained on ImageNet at strides 8 and 16, 3x3 patches of them as
in PatchCore, pooled to 1024 values each and to the teacher's channels together, each channel of mean 0 and spread 1; the
target sees an image at twice the teacher's size, so that both have a value every 4 pixels of it.

Deviations: images are those of the user, not of ImageNet, and are cropped and mirrored at random, since they are few; the
target network may be any of timm's, the paper's is wide_resnet101_2.tv_in1k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from anomaly_core import ConfigError, InputSpec
from anomaly_distillation.efficientad.model import channel_statistics
from anomaly_distillation.efficientad.networks import BORDER, Shape, patch_description_network, positions
from anomaly_features import Backbones, ExtractorOptions, FeatureExtractor, full_name, upsample

STRIDES = (8, 16)
POOLED = 1024  # values of a patch, of each level
WEIGHT_DECAY = 1e-5
GREY = 0.1  # share of images that are seen without colour
SMALLEST_CROP = 0.4  # of the whole area
STATISTICS = 32  # batches for mean and spread of the target's channels

Draw = Callable[[int], Tensor]
Progress = Callable[[Iterable[int], Callable[[], str], int], Iterable[Any]]


class PatchTarget(nn.Module):
    """What a teacher learns: patches of a large network's features, pooled to a few channels.

    Args:
        extractor: with two levels, the second of half the size of the first.
        features: channels of the result.

    Attributes:
        mean, std: (1, features, 1, 1), of the result's channels before they are taken off; 0 and 1 at first.
    """

    mean: Tensor
    std: Tensor
    _fine: Tensor
    _coarse: Tensor

    def __init__(self, extractor: FeatureExtractor, features: int) -> None:
        super().__init__()
        self.extractor = extractor
        weights = patch_pooling(extractor.channels, features)
        self.register_buffer("_fine", weights[0], persistent=False)
        self.register_buffer("_coarse", weights[1], persistent=False)
        self.register_buffer("mean", torch.zeros(1, features, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, features, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1] to (B, features, H/8, W/8)."""
        fine, coarse = self.extractor(images)
        # Patches, pooling and enlarging are linear: that the coarse level is enlarged last changes nothing.
        fine, coarse = F.conv2d(fine, self._fine, padding=1), F.conv2d(coarse, self._coarse, padding=1)
        enlarged = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
        return (fine + enlarged - self.mean) / self.std


class FeatureTeacher(nn.Module):
    """The target itself as a teacher: no network that is small, but one that has learnt all that there is to learn.

    Args:
        target: what a teacher would learn.
        size: (H, W) of the images.
        mean, std: by which they are normalised.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, target: PatchTarget, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.target = target
        self._size = size
        self.register_buffer("_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to (B, features, h, w), at the positions of a patch description network."""
        height, width = self._size
        features = self.target(upsample(images * self._std + self._mean, (2 * height, 2 * width)))
        features = features[:, :, BORDER:-BORDER, BORDER:-BORDER]
        wanted = positions(self._size)
        return features if features.shape[-2:] == wanted else F.interpolate(features, wanted, mode="bilinear")


def patch_pooling(channels: Iterable[int], features: int) -> list[Tensor]:
    """A 3x3 convolution (features, C, 3, 3) for each level: what PatchCore's patches become by both poolings, of that level.

    A patch's 9 C values are pooled to 1024 by :func:`torch.nn.functional.adaptive_avg_pool1d`, those of all levels to
    ``features`` together.
    """
    per_level = [F.adaptive_avg_pool1d(torch.eye(9 * count), POOLED).T for count in channels]  # (1024, 9 C)
    together = F.adaptive_avg_pool1d(torch.eye(POOLED * len(per_level)), features).T  # (features, 1024 levels)
    parts = together.split(POOLED, dim=1)
    return [(part @ own).view(features, -1, 3, 3) for part, own in zip(parts, per_level, strict=True)]


def target_network(name: str, backbones: Backbones | None, options: ExtractorOptions | None = None) -> FeatureExtractor:
    """The network whose features at strides 8 and 16 a teacher learns; ConfigError if it has none.

    Raises:
        ConfigError: timm has no such network, or it has no such features.
        BackboneError: its weights are nowhere to be found.
    """
    strides = _strides(full_name(name))
    if not set(STRIDES) <= set(strides):
        raise ConfigError(
            f"{name!r} has no features at strides of 8 and 16 pixels, which a teacher learns. Choose a convolutional network, "
            "such as wide_resnet50_2 or tf_efficientnet_lite0."
        )
    return FeatureExtractor(name, [strides.index(stride) for stride in STRIDES], backbones, options)


def _strides(full: str) -> list[int]:
    """Of a timm network's levels: five of most, four of those that begin with patches of 4 pixels."""
    for levels in (5, 4):
        with suppress(ConfigError), torch.device("meta"):
            return FeatureExtractor(full, range(levels)).strides
    return []


def distil(
    shape: Shape,
    target: PatchTarget,
    draw: Draw,
    size: tuple[int, int],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    device: torch.device,
    progress: Progress | None = None,
) -> tuple[nn.Sequential, float]:
    """A teacher, and its mean squared error at the end, in variances of the target's channels.

    Args:
        shape: of the teacher.
        target: what it learns; its mean and spread are set here.
        draw: so many images, float32 (B, 3, 2 H, 2 W) in [0, 1], from torch's global generator.
        size: (H, W) that the teacher sees.
        steps, batch_size, learning_rate: of Adam, whose rate falls to 0 along a cosine.
        progress: shows the steps.
    """
    spec = InputSpec(size)  # EfficientAD's normalisation, and not the target's own
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    target.to(device).eval()
    with torch.no_grad():
        seen = (target(_cropped(draw(batch_size)).to(device)) for _ in range(min(STATISTICS, steps)))
        statistics = channel_statistics(seen, shape.features)
        target.mean.copy_(statistics[0])
        target.std.copy_(statistics[1])
    teacher = patch_description_network(shape, shape.features, padded=True).to(device).train()
    optimizer = Adam(teacher.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, steps)
    recent = [0.0]  # a running mean
    shown = progress or (lambda items, words, total: items)
    for step in shown(range(steps), lambda: f"distilling  error {recent[0]:.3f}", steps):
        images = _cropped(draw(batch_size)).to(device)
        with torch.no_grad():
            wanted = target(images)
        with torch.enable_grad():
            small = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
            loss = (teacher((small - mean) / std) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        value = float(loss.detach())
        recent[0] = value if step == 0 else 0.95 * recent[0] + 0.05 * value
    return teacher.eval(), recent[0]


def _cropped(images: Tensor) -> Tensor:
    """Parts of images (B, 3, H, W), at random, enlarged to their size again; some mirrored, some without colour."""
    height, width = images.shape[-2:]
    parts = []
    for image in images:
        share = (SMALLEST_CROP + (1 - SMALLEST_CROP) * float(torch.rand(()))) ** 0.5
        rows, columns = max(1, round(height * share)), max(1, round(width * share))
        top, left = (int(torch.randint(room + 1, ())) for room in (height - rows, width - columns))
        part = upsample(image[None, :, top : top + rows, left : left + columns], (height, width))[0]
        flips = [axis for axis in (1, 2) if torch.rand(()) < 0.5]
        part = part.flip(flips) if flips else part
        if torch.rand(()) < GREY:
            part = (part * part.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=0, keepdim=True).expand_as(part)
        parts.append(part)
    return torch.stack(parts)
