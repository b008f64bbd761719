"""DRAEM's two networks: one paints an image as if it were normal, the other compares the two and segments.

Paper: Zavrtanik et al., "DRAEM - A discriminatively trained reconstruction embedding for surface anomaly detection", ICCV 2021,
https://arxiv.org/abs/2108.07610
Code: https://github.com/VitjanZ/DRAEM (MIT)

Deviations:
- Images are RGB; the original reads BGR.
- Feature maps are enlarged to the size of the encoder's at that depth instead of twofold, so that sides need not be multiples
  of 32; for multiples of 32 both are the same.
- SSIM takes images to range over 1; the original infers 1 or 2 (or 255) from the values of each batch.
- Anomalies are synthesised batch by batch in torch, where the original works image by image with imgaug; see ``synthesis.py``
  and ``augment.py`` for what differs. Without the texture data set (DTD), sources are procedural textures and training images.
- The corners of a turned normal image are black, as in the original, or mirrored (the `edge` preset): black ones teach that
  black is normal, and a narrow network then misses dark holes.
- Among the epochs the `edge` preset keeps the best on held-out normal images with synthetic anomalies; the original the last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = {"reconstructive": 4, "discriminative": 5}  # how often each network halves an image


class DRAEMModel(nn.Module):
    """Both networks; usable without the rest of the project.

    Args:
        reconstructive_width: channels of the reconstructive network's first block.
        discriminative_width: channels of the discriminative network's first block.
    """

    def __init__(self, reconstructive_width: int = 128, discriminative_width: int = 64) -> None:
        super().__init__()
        self.reconstructive = ReconstructiveNetwork(reconstructive_width)
        self.discriminative = DiscriminativeNetwork(discriminative_width)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images with or without anomalies -> what they would be without, and what differs.

        Args:
            images: float (B, 3, H, W) in [0, 1], not normalised; sides of at least 32 pixels.

        Returns:
            (B, 3, H, W) reconstructions, not bounded, and (B, 2, H, W) logits of normal and anomalous.
        """
        images = images.contiguous(memory_format=torch.channels_last)  # a quarter faster on a CPU
        reconstructions = self.reconstructive(images)
        return reconstructions, self.discriminative(torch.cat([reconstructions, images], dim=1))


class ReconstructiveNetwork(nn.Module):
    """An autoencoder without skip connections: 3 channels in, 3 out, a sixteenth of the sides between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.encoder = nn.ModuleList(_block(before, after, after) for before, after in zip([3, *widths], widths, strict=False))
        self.decoder = nn.ModuleList()
        for deep, shallow in ((8, 4), (4, 2), (2, 1), (1, 1)):
            self.decoder.append(_layer(deep * width, deep * width))
            self.decoder.append(_block(deep * width, deep * width, shallow * width))
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = _encode(self.encoder, images)
        x = maps.pop()
        for up, block in zip(self.decoder[::2], self.decoder[1::2], strict=True):
            x = block(up(_enlarge(x, maps.pop())))
        reconstruction: Tensor = self.head(x)
        return reconstruction


class DiscriminativeNetwork(nn.Module):
    """A U-Net on reconstruction and image: 6 channels in, the logits of two classes out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width, 8 * width]
        self.encoder = nn.ModuleList(_block(before, after, after) for before, after in zip([6, *widths], widths, strict=False))
        self.decoder = nn.ModuleList()
        for deep, shallow, beside in ((8, 8, 8), (8, 4, 8), (4, 2, 4), (2, 1, 2), (1, 1, 1)):
            self.decoder.append(_layer(deep * width, shallow * width))
            self.decoder.append(_block((shallow + beside) * width, shallow * width, shallow * width))
        self.head = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, pairs: Tensor) -> Tensor:
        maps = _encode(self.encoder, pairs)
        x = maps.pop()
        for up, block in zip(self.decoder[::2], self.decoder[1::2], strict=True):
            beside = maps.pop()
            x = block(torch.cat([up(_enlarge(x, beside)), beside], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _encode(blocks: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """The output of each block, the shallowest first, each of half the sides of the one before."""
    maps: list[Tensor] = []
    for block in blocks:
        maps.append(block(F.max_pool2d(maps[-1], 2) if maps else x))
    return maps


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def _layer(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _block(before: int, between: int, after: int) -> nn.Sequential:
    return nn.Sequential(*_layer(before, between), *_layer(between, after))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
