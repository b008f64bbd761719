"""The parts of all networks here: encoder, decoder with optional skips, and the padding that makes any image size fit.

Convolutions mirror the border: with zeros around it, a network reconstructs the border worse than the rest, and every anomaly
map lights up there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Grid = tuple[int, int]


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution whose output is its input's size, divided by the stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2, padding_mode="reflect")


def activated(layer: nn.Conv2d, norm: bool) -> nn.Sequential:
    """The convolution, batch normalisation where asked for, and a leaky ReLU of slope 0.2."""
    normalised = [nn.BatchNorm2d(layer.out_channels)] if norm else []
    return nn.Sequential(layer, *normalised, nn.LeakyReLU(0.2))


class Encoder(nn.Module):
    """Stages that halve the side with a 4x4 convolution of stride 2; all but the first then have one of 3x3.

    Args:
        widths: channels of each stage, the finest first.
        norm: batch normalisation after each convolution.
    """

    def __init__(self, widths: Sequence[int], norm: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList([activated(conv(3, widths[0], 4, 2), norm)])
        for before, width in pairwise(widths):
            self.stages.append(
                nn.Sequential(activated(conv(before, width, 4, 2), norm), activated(conv(width, width, 3), norm))
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), sides divisible by 2**stages -> one (B, C, H/2**i, W/2**i) map a stage."""
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


class Decoder(nn.Module):
    """The encoder's stages backwards: the side is doubled by repetition, which leaves no checkerboard in the maps, skips are
    joined in, and 3x3 convolutions follow; the last doubling is followed by one to the three colours.

    Args:
        widths: the encoder's.
        norm: batch normalisation after each convolution but the last.
        skips: strides whose encoder maps are joined in, such as (4, 8).
    """

    def __init__(self, widths: Sequence[int], norm: bool, skips: Sequence[int] = ()) -> None:
        super().__init__()
        self.skips = frozenset(skips)
        self.stages = nn.ModuleDict()
        for stride, (finer, width) in reversed(list(zip(strides(len(widths)), pairwise(widths), strict=False))):
            joined = finer if stride in self.skips else 0
            stage = nn.Sequential(activated(conv(width + joined, finer, 3), norm), activated(conv(finer, finer, 3), norm))
            self.stages[str(stride)] = stage
        self.last = conv(widths[0], 3, 3)

    def forward(self, deepest: Tensor, features: Sequence[Tensor]) -> Tensor:
        """The deepest map, made from the latent values, and the encoder's maps -> (B, 3, H, W) images."""
        maps = deepest
        for finer, (stride, stage) in zip(reversed(features[:-1]), self.stages.items(), strict=True):
            maps = F.interpolate(maps, scale_factor=2, mode="nearest")
            maps = stage(torch.cat([maps, finer], dim=1) if int(stride) in self.skips else maps)
        images: Tensor = self.last(F.interpolate(maps, scale_factor=2, mode="nearest"))
        return images


def strides(stages: int) -> list[int]:
    """Strides of the maps that a skip can join in: of all stages but the deepest."""
    return [2**level for level in range(1, stages)]


class Squeeze(nn.Module):
    """The deepest map to latent values: a vector that sees the whole image, or a map of few channels.

    Args:
        width: channels of the deepest map.
        latents: latent values, of the image or of each cell.
        grid: (h, w) of the deepest map for a vector; None for a map.
    """

    def __init__(self, width: int, latents: int, grid: Grid | None) -> None:
        super().__init__()
        self.layer = conv(width, latents, 1) if grid is None else nn.Conv2d(width, latents, grid)

    def forward(self, deepest: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, L, 1, 1), or (B, L, h, w) for a map."""
        latents: Tensor = self.layer(deepest)
        return latents


class Unsqueeze(nn.Module):
    """Latent values back to the deepest map; arguments as :class:`Squeeze`."""

    def __init__(self, width: int, latents: int, grid: Grid | None) -> None:
        super().__init__()
        self.layer = conv(latents, width, 1) if grid is None else nn.ConvTranspose2d(latents, width, grid)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, L, 1, 1), or (B, L, h, w) for a map -> (B, C, h, w)."""
        return F.leaky_relu(self.layer(latents), 0.2)


def padded(side: int, multiple: int) -> int:
    """The next multiple, and two of them at least: one cell alone has no neighbour to mirror."""
    return max(2, -(-side // multiple)) * multiple


def pad_to(images: Tensor, multiple: int) -> tuple[Tensor, tuple[slice, slice]]:
    """Images with their border repeated until both sides are :func:`padded`, and where the image lies in the result."""
    places, widths = [], []
    for side in images.shape[-2:]:
        extra = padded(side, multiple) - side
        places.append(slice(extra // 2, extra // 2 + side))
        widths.append((extra // 2, extra - extra // 2))
    (top, bottom), (left, right) = widths
    return F.pad(images, (left, right, top, bottom), mode="replicate"), (places[0], places[1])
