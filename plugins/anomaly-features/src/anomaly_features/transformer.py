"""TransformerExtractor: a vision transformer's tokens, as frozen feature maps or as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anomaly_core import ConfigError
from anomaly_features.backbones import Backbones, full_name
from anomaly_features.errors import BackboneError
from anomaly_features.network import FrozenNetwork
from anomaly_features.options import ExtractorOptions
from anomaly_features.timm_import import timm

MODULES = {"cait", "deit", "eva", "vision_transformer"}  # timm's, of plain transformers; DINOv3's is eva


def is_transformer(name: str) -> bool:
    """Whether timm's model is a ViT (DINOv2, CLIP, DINOv3 and EVA too), DeiT or CaiT; ConfigError if timm has no such model."""
    return bool(timm.models.is_model_in_modules(full_name(name).partition(".")[0], MODULES))


class TransformerExtractor(FrozenNetwork):
    """Patch tokens after chosen blocks, as maps. Frozen: always in eval mode.

    The tokens before them (class, distillation, registers) take part in attention. They are dropped, as are the blocks after
    the last chosen one, unless asked for.

    Args:
        name: timm's name of a ViT, DeiT or CaiT; DINOv2, DINOv3, CLIP's and EVA's vision transformers are such.
        layers: blocks, counted from 0, by index or name (``blocks.7``).
        size: (H, W) of the images, a whole number of patches; position embeddings are resampled to it.
        backbones: the source of the weights; None builds without weights, for a saved state that is loaded later.
        options: the engine, and whether features are cached; None: the defaults.
        norm: normalise each output by the network's last norm; False gives the blocks' raw outputs.
        tokens: whole sequences instead of maps, (B, prefix + h * w, C) a layer: the tokens before the patches come first, and
            the patches row by row.
        embedding: one more tensor after the layers', (B, D): what the whole network makes of an image. It is the class token or
            the mean of the patches after the last norm, and with CLIP's weights its projection beside texts.

    Attributes:
        shapes: (C, h, w) of each layer's map, with ``tokens`` as well.
        prefix: the number of tokens before the patches.
        mean, std: the normalisation that the network was trained with, for images in [0, 1].

    Raises:
        ConfigError: timm has no such model or block, or the images are not a whole number of patches.
        BackboneError: no source has the weights.
        PluginError: the engine or its library is not installed.
    """

    shapes: list[tuple[int, int, int]]
    prefix: int
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
        *,
        norm: bool = True,
        tokens: bool = False,
        embedding: bool = False,
    ) -> None:
        super().__init__(options)
        full = full_name(name)
        self.norm, self.tokens, self.embedding = norm, tokens, embedding
        head = {} if embedding and _has_projection(full) else {"num_classes": 0}
        self.network = timm.create_model(full, img_size=size, **head)
        self._indices = [_block(layer, full, len(self.network.blocks)) for layer in layers]
        patch = self.network.patch_embed.patch_size
        if size[0] % patch[0] or size[1] % patch[1]:
            raise ConfigError(
                f"the images of {size[0]}x{size[1]} pixels are no whole number of {full}'s patches of {patch[0]}x{patch[1]}. "
                "Choose multiples for model.image_size, or for model.center_crop where there is one."
            )
        if backbones is not None:
            self._load(backbones.load(full), full)
        kept = sorted(set(self._indices))
        cait = isinstance(self.network, timm.models.cait.Cait)  # whose class token comes after all blocks
        if not embedding:
            self.network.prune_intermediate_layers(kept, prune_norm=not norm, prune_head=False)
            if cait:
                self.network.blocks_token_only = None
        self.prefix = 0 if cait else int(self.network.num_prefix_tokens)
        self._order = [kept.index(index) for index in self._indices]
        self.network.eval().requires_grad_(False)
        self.shapes = [(self.network.embed_dim, *self.network.patch_embed.grid_size)] * len(self._indices)
        cfg = timm.get_pretrained_cfg(full)
        self.mean, self.std = tuple(cfg.mean), tuple(cfg.std)
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) RGB images in [0, 1] -> one (B, C, H/patch, W/patch) map or (B, prefix + h * w, C) sequence of
        tokens per layer; with ``embedding``, (B, D) after them."""
        options: dict[str, Any] = {"return_prefix_tokens": True} if self.tokens and self.prefix else {}
        made = self.network.forward_intermediates(
            (images - self._mean) / self._std,
            indices=sorted(set(self._indices)),
            norm=self.norm,
            stop_early=not self.embedding,
            output_fmt="NLC" if self.tokens else "NCHW",
            intermediates_only=not self.embedding,
            **options,
        )
        last, layers = made if self.embedding else (None, made)
        if options:
            layers = [torch.cat([prefix, patches], dim=1) for patches, prefix in layers]
        features: list[Tensor] = [layers[i] for i in self._order]
        return [*features, self.network.forward_head(last)] if self.embedding else features

    def _load(self, weights: dict[str, Tensor], full: str) -> None:
        """Load all weights except the classifier's, with position embeddings resampled to this image's grid."""
        own = self.network.state_dict()
        if lacking := [key for key in own if key not in weights]:  # the rest were checked when they were read
            raise BackboneError(
                f"the weights of {full} lack {lacking[0]!r}, which its embedding needs. Give the file as it was published."
            )
        state = {key: weights[key] for key in own}
        if "pos_embed" in own and state["pos_embed"].shape != own["pos_embed"].shape:
            # the tokens before the patches have positions too, except in CaiT; rotary embeddings, as DINOv3's, fit any grid
            grid = self.network.patch_embed.grid_size
            prefix = own["pos_embed"].shape[1] - grid[0] * grid[1]
            state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], list(grid), num_prefix_tokens=prefix)
        self.network.load_state_dict(state)


def _has_projection(full: str) -> bool:
    """Whether the weights are CLIP's own, whose last layer projects an image beside texts; fine-tuned ones classify."""
    architecture, _, tag = full.partition(".")
    return "clip" in architecture.split("_") and "_ft_" not in tag


def _block(layer: int | str, name: str, count: int) -> int:
    """The index of a block given by index or name."""
    number = str(layer).removeprefix("blocks.")
    if not number.isdecimal() or int(number) >= count:
        raise ConfigError(f"the backbone {name!r} has no layer {layer!r}. Its layers are: blocks.0 to blocks.{count - 1}.")
    return int(number)
