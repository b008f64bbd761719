"""TransformerExtractor: a vision transformer's tokens as frozen feature maps, normalised by its own last norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anomaly_core import ConfigError
from anomaly_features.backbones import Backbones, full_name
from anomaly_features.network import FrozenNetwork
from anomaly_features.options import ExtractorOptions
from anomaly_features.timm_import import timm


def is_transformer(name: str) -> bool:
    """Whether timm's model is a ViT, DeiT or CaiT; ConfigError if timm has no such model."""
    return bool(timm.models.is_model_in_modules(full_name(name).partition(".")[0], {"cait", "deit", "vision_transformer"}))


class TransformerExtractor(FrozenNetwork):
    """Patch tokens after chosen blocks, through the network's own last norm, as maps. Frozen: always in eval mode.

    Class and distillation tokens take part in attention and are then dropped, as are the blocks after the last chosen one.

    Args:
        name: timm's name of a ViT, DeiT or CaiT.
        layers: blocks, counted from 0, by index or name (``blocks.7``).
        size: (H, W) of the images, a whole number of patches; position embeddings are resampled to it.
        backbones: the source of the weights; None builds without weights, for a saved state that is loaded later.
        options: the engine, and whether features are cached; None: the defaults.

    Attributes:
        shapes: (C, h, w) of each feature map.
        mean, std: the normalisation that the network was trained with, for images in [0, 1].

    Raises:
        ConfigError: timm has no such model or block, or the images are not a whole number of patches.
        BackboneError: no source has the weights.
        PluginError: the engine or its library is not installed.
    """

    shapes: list[tuple[int, int, int]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        name: str,
        layers: Sequence[int | str],
        size: tuple[int, int],
        backbones: Backbones | None = None,
        options: ExtractorOptions | None = None,
    ) -> None:
        super().__init__(options)
        full = full_name(name)
        self.network = timm.create_model(full, img_size=size, num_classes=0)
        self._indices = [_block(layer, full, len(self.network.blocks)) for layer in layers]
        patch = self.network.patch_embed.patch_size
        if size[0] % patch[0] or size[1] % patch[1]:
            raise ConfigError(
                f"the images of {size[0]}x{size[1]} pixels are no whole number of {full}'s patches of {patch[0]}x{patch[1]}. "
                "Choose multiples for model.image_size, or for model.center_crop where there is one."
            )
        if backbones is not None:
            self._load(backbones.load(full))
        kept = sorted(set(self._indices))
        self.network.prune_intermediate_layers(kept, prune_head=False)
        if isinstance(self.network, timm.models.cait.Cait):
            self.network.blocks_token_only = None  # class attention comes after all blocks
        self._order = [kept.index(index) for index in self._indices]
        self.network.eval().requires_grad_(False)
        self.shapes = [(self.network.embed_dim, *self.network.patch_embed.grid_size)] * len(self._indices)
        cfg = timm.get_pretrained_cfg(full)
        self.mean, self.std = tuple(cfg.mean), tuple(cfg.std)
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) RGB images in [0, 1] -> one (B, C, H/patch, W/patch) map per layer."""
        features: list[Tensor] = self.network.forward_intermediates(
            (images - self._mean) / self._std,
            indices=sorted(set(self._indices)),
            norm=True,
            stop_early=True,
            intermediates_only=True,
        )
        return [features[i] for i in self._order]

    def _load(self, weights: dict[str, Tensor]) -> None:
        """Load all weights except the classifier's, with position embeddings resampled to this image's grid."""
        own = self.network.state_dict()
        state = {key: weights[key] for key in own}
        if state["pos_embed"].shape != own["pos_embed"].shape:
            # the tokens before the patches have positions too, except in CaiT
            grid = self.network.patch_embed.grid_size
            prefix = own["pos_embed"].shape[1] - grid[0] * grid[1]
            state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], list(grid), num_prefix_tokens=prefix)
        self.network.load_state_dict(state)


def _block(layer: int | str, name: str, count: int) -> int:
    """The index of a block given by index or name."""
    number = str(layer).removeprefix("blocks.")
    if not number.isdecimal() or int(number) >= count:
        raise ConfigError(f"the backbone {name!r} has no layer {layer!r}. Its layers are: blocks.0 to blocks.{count - 1}.")
    return int(number)
