"""One grid of patches from the layers of any timm network, and the modeler that extracts it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import ConfigError, DataError, InputSpec, MemoryModeler, ModelContext
from anomaly_dino.options import Combine, PatchOptions
from anomaly_features import ExtractorModeler, FeatureExtractor, TransformerExtractor, is_transformer


def combined(layers: Sequence[Tensor], combine: Combine = "mean") -> Tensor:
    """Feature maps of one batch as one: each enlarged to the finest grid, averaged in groups, the groups concatenated.

    Args:
        layers: float (B, C_i, h_i, w_i).
        combine: ``mean`` of all, ``concat``, or the sizes of consecutive groups.

    Returns:
        float32 (B, D, h, w).

    Raises:
        ConfigError: layers that are to be averaged differ in channels, or the groups do not add up.
    """
    sizes = {"mean": (len(layers),), "concat": (1,) * len(layers)}.get(combine) if isinstance(combine, str) else combine
    assert sizes is not None
    if sum(sizes) != len(layers):
        raise ConfigError(
            f"model.combine={','.join(map(str, sizes))} groups {sum(sizes)} layers, and model.layers has {len(layers)}. "
            "Let the sizes add up to the layers."
        )
    grid = max((tuple(layer.shape[-2:]) for layer in layers), key=lambda size: size[0] * size[1])
    groups, first = [], 0
    for size in sizes:
        group, first = layers[first : first + size], first + size
        if len({layer.shape[1] for layer in group}) > 1:
            raise ConfigError(
                f"layers of {', '.join(str(layer.shape[1]) for layer in group)} channels have no mean. "
                "Set model.combine=concat."
            )
        of_grid = [
            layer.float()
            if layer.shape[-2:] == grid
            else F.interpolate(layer.float(), grid, mode="bilinear", align_corners=False)
            for layer in group
        ]
        groups.append(of_grid[0] if size == 1 else torch.stack(of_grid).mean(dim=0))
    return groups[0] if len(groups) == 1 else torch.cat(groups, dim=1)


def averaged(patches: Tensor, side: int) -> Tensor:
    """(B, D, h, w): each patch the mean of the square of ``side`` around it; what lies beyond the border does not count."""
    return patches if side == 1 else F.avg_pool2d(patches, side, stride=1, padding=side // 2, count_include_pad=False)


class PatchModeler(ExtractorModeler, MemoryModeler):
    """A memory of patches of a frozen network, whatever the memory is.

    Raises:
        ConfigError: a backbone or a layer that does not exist, or an option that would be ignored.
        BackboneError: no source has the weights.
    """

    config: PatchOptions
    extractor: FeatureExtractor | TransformerExtractor

    def __init__(self, config: PatchOptions, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.transductive = config.batched
        if config.pool_size % 2 == 0:
            raise ConfigError(f"model.pool_size={config.pool_size} is even: a square needs a centre. Choose 1, 3, 5, ...")
        size, weights = InputSpec.from_config(config).output_size, config.weights(self.context)
        self._seen = size
        if is_transformer(config.backbone):
            # timm names a transformer by the side of its patches; the original of AnomalyDINO cuts the rest off as well
            found = re.search(r"patch(\d+)", config.backbone)
            side = int(found[1]) if found else 1
            self._seen = (max(1, size[0] // side) * side, max(1, size[1] // side) * side)
            self.extractor = TransformerExtractor(
                config.backbone, config.layers, self._seen, weights, config, norm=config.final_norm
            )
        else:
            self.extractor = FeatureExtractor(config.backbone, config.layers, weights, config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)

    def warm_up(self, device: torch.device) -> None:
        """The extractor is compiled."""
        self.extractor.warm_up(self._seen, device)

    def patches(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1] -> (B, D, h, w). What a transformer has no whole patches for is cut off, at the right
        and at the bottom: the grid stands for the whole image all the same."""
        whole = images[..., : self._seen[0], : self._seen[1]] if isinstance(self.extractor, TransformerExtractor) else images
        return averaged(combined(self.feature_maps(whole), self.config.combine), self.config.pool_size)

    def finite_patches(self, images: Tensor) -> Tensor:
        """As :meth:`patches`; DataError if some are NaN or infinite, for nothing may be learnt from them."""
        patches = self.patches(images)
        if not patches.isfinite().all():
            raise DataError(
                f"{type(self).__name__}: features of the images hold NaN or infinity. "
                "Check the images and the backbone's weights."
            )
        return patches
