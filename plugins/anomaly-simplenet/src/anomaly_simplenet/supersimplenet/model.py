"""SuperSimpleNet's network part: joined features, their adaptor, a head that makes a map of them and one that makes a score.

Paper: Rolih, Fučka and Skočaj, "SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable Surface
Defect Detection", ICPR 2024, https://arxiv.org/abs/2408.03143
Code: https://github.com/blaz-r/SuperSimpleNet (MIT), commit 60d1e74; the names of the tensors of adaptor and discriminator are
that code's.

Deviations:
- The image's score is the logit, not its sigmoid: rankings are the same, and a threshold finds no plateau.
- An epoch shows each normal image once and as many defects, of which each recurs. That code's epochs, with defects, are as long
  as there are defects, four times each, with as many normal images: of five defects an epoch has 40 images.
- A defect is mirrored or turned at random; there, it occurs as it is, mirrored both ways and turned, once an epoch each.
- Images with a label and no mask are learnt by the score alone, without noise; that code leaves them out.
- Layers of any timm network, at any scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_features import upsample

SIGMA, RADIUS = 4.0, 12  # of the Gaussian on maps, in pixels


def joined_features(levels: Sequence[Tensor], upscale: int = 2) -> Tensor:
    """Feature maps (B, C_i, h_i, w_i) as one (B, sum of C_i, h_0 * upscale, w_0 * upscale), averaged over 3 x 3 cells."""
    size = (int(levels[0].shape[-2]) * upscale, int(levels[0].shape[-1]) * upscale)
    larger = [F.interpolate(level, size, mode="bilinear", align_corners=True) for level in levels]
    return F.avg_pool2d(torch.cat(larger, dim=1), 3, stride=1, padding=1)


def smooth_map(map_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, h, w) -> (B, 1, H, W): enlarged bilinearly, then a Gaussian of 25 x 25 pixels, reflected at the border."""
    maps = upsample(map_logits, size)
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    radii = [min(RADIUS, side - 1) for side in size]  # what is reflected is no larger than the map
    down, across = (kernel[RADIUS - radius : RADIUS + radius + 1] for radius in radii)
    padded = F.pad(maps, (radii[1], radii[1], radii[0], radii[0]), mode="reflect")
    return F.conv2d(F.conv2d(padded, down.view(1, 1, -1, 1)), across.view(1, 1, 1, -1))


class FeatureAdaptor(nn.Module):
    """One linear layer on each cell's features, (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, 1)
        self.apply(_initialise)

    def forward(self, features: Tensor) -> Tensor:
        return self.projection(features)  # type: ignore[no-any-return]  # what a module returns is not typed


class Discriminator(nn.Module):
    """Both heads.

    Args:
        channels: of the features.
        hidden_channels: inside the head that makes the map.
        head_channels: inside the head that makes the score.
        stop_grad: whether the score's gradient ends before the map.
    """

    def __init__(self, channels: int, hidden_channels: int = 1024, head_channels: int = 128, stop_grad: bool = True) -> None:
        super().__init__()
        self.stop_grad = stop_grad
        self.seg = nn.Sequential(
            nn.Conv2d(channels, hidden_channels, 1),
            nn.BatchNorm2d(hidden_channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(hidden_channels, 1, 1, bias=False),
        )
        self.dec_head = nn.Sequential(
            nn.Conv2d(channels + 1, head_channels, 5, padding=2), nn.BatchNorm2d(head_channels), nn.ReLU(inplace=True)
        )
        self.fc_score = nn.Linear(2 * head_channels + 2, 1)
        self.apply(_initialise)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """float (B, C, h, w) adapted features -> map logits (B, 1, h, w) and score logits (B,)."""
        map_logits = self.seg(features)
        seen = map_logits.detach() if self.stop_grad else map_logits
        decided = self.dec_head(torch.cat([features, seen], dim=1))
        pooled = [decided.amax(dim=(2, 3)), decided.mean(dim=(2, 3)), seen.amax(dim=(2, 3)), seen.mean(dim=(2, 3))]
        return map_logits, self.fc_score(torch.cat(pooled, dim=1))[:, 0]


class SuperSimpleNetModel(nn.Module):
    """Adaptor and discriminator; the features come from elsewhere.

    Args:
        channels: of the joined features.
        hidden_channels, head_channels, stop_grad: of the :class:`Discriminator`.
    """

    def __init__(self, channels: int, hidden_channels: int = 1024, head_channels: int = 128, stop_grad: bool = True) -> None:
        super().__init__()
        self.feature_adaptor = FeatureAdaptor(channels)
        self.discriminator = Discriminator(channels, hidden_channels, head_channels, stop_grad)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """float (B, C, h, w) joined features -> map logits (B, 1, h, w) and score logits (B,)."""
        logits: tuple[Tensor, Tensor] = self.discriminator(self.feature_adaptor(features))
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
