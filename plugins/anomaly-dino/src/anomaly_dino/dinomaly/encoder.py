"""GroupedTokens: a frozen transformer whose blocks are averaged in groups, so that few values an image are kept in a cache."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from anomaly_core import ConfigError
from anomaly_dino.dinomaly.model import grouped
from anomaly_features import Backbones, ExtractorOptions, TransformerExtractor, is_transformer


class GroupedTokens(TransformerExtractor):
    """The mean of each group of consecutive blocks' raw tokens, (B, prefix + h * w, C) each.

    Args:
        name: timm's name of a vision transformer.
        layers: its blocks, in order.
        size: (H, W) of the images, which are resized to the nearest whole number of patches.
        groups: how many groups the layers are divided into.
        backbones: the source of the weights; None builds without weights.
        options: the engine and the cache.

    Attributes:
        heads: of the transformer's attention.

    Raises:
        ConfigError: it is no transformer, or the layers are no whole number of groups.
        BackboneError: no source has the weights.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[int | str],
        size: tuple[int, int],
        groups: int,
        backbones: Backbones | None,
        options: ExtractorOptions,
    ) -> None:
        if not is_transformer(name):
            raise ConfigError(
                f"Dinomaly rebuilds the tokens of a vision transformer, and model.backbone={name!r} is none. Choose one, such "
                "as vit_small_patch14_dinov2; for convolutional features there is reverse_distillation."
            )
        if len(layers) % groups:
            raise ConfigError(
                f"model.groups={groups} does not divide the {len(layers)} blocks of model.layers. Choose a number that does."
            )
        found = re.search(r"patch(\d+)", name)  # timm names a transformer by the side of its patches
        side = int(found[1]) if found else 1
        self.whole = [max(1, round(length / side)) * side for length in size]
        super().__init__(name, layers, (self.whole[0], self.whole[1]), backbones, options, norm=False, tokens=True)
        self.groups = groups
        self.heads = int(self.network.blocks[0].attn.num_heads)

    def features(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) RGB images in [0, 1] -> one (B, prefix + h * w, C) sequence a group."""
        if list(images.shape[-2:]) != self.whole:
            images = F.interpolate(images, self.whole, mode="bilinear", align_corners=False)
        return grouped(super().features(images), self.groups)
