"""Reverse distillation's network part: a bottleneck that keeps what is normal, and a decoder that rebuilds features from it.

Paper: Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022,
https://arxiv.org/abs/2201.10703
Code: https://github.com/hq-deng/RD4AD (MIT), commit 6554076; agrees with it on features, losses, gradients, maps and scores.

Deviations:
- The encoder may be any of timm's convolutional networks, with three levels of which each has half the size of the one before.
  Bottleneck and decoder take their channels from it: with those of a ResNet they are the original's, tensor by tensor.
- The original builds a further convolution of the bottleneck that it never uses (``conv4``, ``bn4``). It is left out, and
  ignored where a state of the original holds it.
- The paper writes the loss as a mean over positions of the cosine distance along channels; the original's code, and so the
  default here, takes whole flattened maps. ``model.loss=positions`` is the paper's form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_distillation.reverse_distillation.blocks import Kind, stage, start
from anomaly_features import gaussian_smooth

Loss = Literal["flattened", "positions", "concatenated"]
LEVELS = 3


class Bottleneck(nn.Module):
    """The one-class embedding: the encoder's three levels, fused at the size of the smallest, and halved by residual blocks.

    Args:
        channels: of the encoder's levels, large to small.
        blocks: how many residual blocks.
        kind, share: of the blocks, see :func:`stage`.
    """

    def __init__(self, channels: Sequence[int], blocks: int, kind: Kind, share: float) -> None:
        super().__init__()
        large, middle, small = channels
        self.conv1, self.bn1 = _halving(large, middle), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = _halving(middle, small), nn.BatchNorm2d(small)
        self.conv3, self.bn3 = _halving(middle, small), nn.BatchNorm2d(small)
        self.bn_layer = stage(LEVELS * small, 2 * small, blocks, kind, share, "half")
        start(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, C_i, h/2^i, w/2^i), i = 0, 1, 2, to the embedding (B, 2 C_2, h/8, w/8)."""
        large, middle, small = features
        large = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(large))))))
        middle = torch.relu(self.bn3(self.conv3(middle)))
        embedding: Tensor = self.bn_layer(torch.cat([large, middle, small], dim=1))
        return embedding

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in [name for name in state_dict if name.startswith((f"{prefix}conv4.", f"{prefix}bn4."))]:
            del state_dict[name]  # in the original's files, and never used there
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Decoder(nn.Module):
    """The encoder mirrored: three stages of residual blocks, each of which doubles the size.

    Args:
        channels: of the encoder's levels, large to small.
        blocks: of each stage, from the embedding on.
        kind, share: of the blocks, see :func:`stage`.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int], kind: Kind, share: float) -> None:
        super().__init__()
        large, middle, small = channels
        self.layer1 = stage(2 * small, small, blocks[0], kind, share, "double")
        self.layer2 = stage(small, middle, blocks[1], kind, share, "double")
        self.layer3 = stage(middle, large, blocks[2], kind, share, "double")
        start(self)

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """(B, 2 C_2, h/8, w/8) to maps of the encoder's shapes, large to small."""
        small = self.layer1(embedding)
        middle = self.layer2(small)
        return [self.layer3(middle), middle, small]


class ReverseDistillationModel(nn.Module):
    """Bottleneck and decoder; the encoder's features come from outside.

    Args:
        channels: of the encoder's three levels, large to small.
        blocks: residual blocks of the decoder's stages, from the embedding on.
        bottleneck_blocks: those of the bottleneck.
        kind: ``bottleneck`` (ResNet-50 and wider) or ``basic`` (ResNet-18).
        share: a bottleneck block's inner channels as a share of its outer ones.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: Sequence[int] = (3, 4, 6),
        bottleneck_blocks: int = 3,
        kind: Kind = "bottleneck",
        share: float = 0.5,
    ) -> None:
        super().__init__()
        self.bottleneck = Bottleneck(channels, bottleneck_blocks, kind, share)
        self.decoder = Decoder(channels, blocks, kind, share)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's maps (B, C_i, h_i, w_i), large to small, to what the decoder makes of them, in the same shapes."""
        rebuilt: list[Tensor] = self.decoder(self.bottleneck(features))
        return rebuilt


def level_losses(encoded: Sequence[Tensor], decoded: Sequence[Tensor], form: Loss = "flattened") -> list[Tensor]:
    """Cosine distances of the encoder's and the decoder's maps (B, C_i, h_i, w_i), scalars whose sum is the loss.

    ``flattened``: of whole maps as vectors, one a level (the original's code); ``positions``: along channels, averaged over
    positions, one a level (the paper's equations 2 and 3); ``concatenated``: as ``positions``, of all levels enlarged to the
    first one's size and joined, a single one (in the original's code, unused).
    """
    if form == "concatenated":
        size = encoded[0].shape[-2:]
        encoded, decoded = ([torch.cat([_enlarged(level, size) for level in levels], dim=1)] for levels in (encoded, decoded))
    if form == "flattened":
        encoded, decoded = ([level.flatten(1) for level in levels] for levels in (encoded, decoded))
    return [(1 - F.cosine_similarity(e, d, dim=1)).mean() for e, d in zip(encoded, decoded, strict=True)]


def level_maps(encoded: Sequence[Tensor], decoded: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """The cosine distance along channels at every position, (B, C_i, h_i, w_i) to (B, 1, *size), one a level."""
    pairs = zip(encoded, decoded, strict=True)
    return [_enlarged(1 - F.cosine_similarity(e, d, dim=1)[:, None], size) for e, d in pairs]


def anomaly_map(levels: Sequence[Tensor], combine: Literal["sum", "product"], sigma: float) -> Tensor:
    """The levels' maps (B, 1, H, W), added or multiplied, then smoothed."""
    stacked = torch.stack(list(levels))
    return gaussian_smooth(stacked.sum(dim=0) if combine == "sum" else stacked.prod(dim=0), sigma)


def _halving(channels: int, planes: int) -> nn.Conv2d:
    return nn.Conv2d(channels, planes, 3, 2, padding=1, bias=False)


def _enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear with ``align_corners=True``, as the original."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
