"""FeatureExtractor: feature maps of a convolutional network from timm."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from anomaly_core import ConfigError
from anomaly_features.backbones import Backbones, full_name
from anomaly_features.network import FrozenNetwork
from anomaly_features.options import ExtractorOptions
from anomaly_features.timm_import import outline, timm


class FeatureExtractor(FrozenNetwork):
    """Feature maps of a timm network that normalises images itself. Frozen: always in eval mode, never trained.

    Timm's ``resnet18`` and ``wide_resnet50_2`` without a tag do not have the weights of the papers: these are
    ``resnet18.tv_in1k`` and ``wide_resnet50_2.tv_in1k``.

    Args:
        name: timm's model name.
        layers: timm's ``features_only`` indices (for ResNets 1, 2, 3 are layer1, layer2, layer3) or module names such as
            ``layer2`` or ``blocks.2``; features are returned in this order.
        backbones: the source of the weights; None builds without weights, for a saved state that is loaded later.
        options: the engine, and whether features are cached; None: the defaults.
        frozen: False makes it an ordinary trainable network (a student).

    Attributes:
        layers: the ``features_only`` indices of the layers.
        channels, strides: of each feature map, in the order of ``layers``.
        mean, std: the normalisation that the network was trained with, for images in [0, 1].

    Raises:
        ConfigError: timm has no such model, or the model has no such layer.
        BackboneError: no source has the weights.
        PluginError: the engine or its library is not installed.
    """

    layers: tuple[int, ...]
    channels: list[int]
    strides: list[int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        name: str,
        layers: Sequence[int | str],
        backbones: Backbones | None = None,
        options: ExtractorOptions | None = None,
        *,
        frozen: bool = True,
    ) -> None:
        super().__init__(options)
        self.frozen = frozen
        full = full_name(name)
        indices = layer_indices(full, layers)
        # timm converts full checkpoints for its feature networks, which may use other tensor names
        weights = (
            {} if backbones is None else {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": backbones.load(full)}}
        )
        with _no_word_of_unused_weights():
            self.network = timm.create_model(full, features_only=True, out_indices=tuple(sorted(set(indices))), **weights)
        self.network.train(not frozen).requires_grad_(not frozen)
        self.layers = tuple(indices)
        self._order = [sorted(set(indices)).index(index) for index in indices]
        info = self.network.feature_info
        self.channels = [info.channels()[i] for i in self._order]
        self.strides = [info.reduction()[i] for i in self._order]
        cfg = timm.get_pretrained_cfg(full)
        self.mean, self.std = tuple(cfg.mean), tuple(cfg.std)
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) RGB images in [0, 1] -> one (B, C, H/stride, W/stride) map per layer."""
        # channels last: nearly twice as fast on a CPU, where convolutions then need no reordering
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.network((images - self._mean) / self._std)
        return [features[i].contiguous() for i in self._order]


def layer_indices(name: str, layers: Iterable[int | str]) -> list[int]:
    """Layers, given by index or module name, as ``features_only`` indices; ConfigError lists the available layers."""
    modules: list[str] = outline(name, features_only=True).feature_info.module_name()
    indices = []
    for layer in layers:
        index = modules.index(layer) if layer in modules else layer
        if isinstance(index, str) and index.isdecimal():
            index = int(index)
        if not isinstance(index, int) or not 0 <= index < len(modules):
            close = difflib.get_close_matches(str(layer), modules, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            names = ", ".join(f"{i} = {module}" for i, module in enumerate(modules))
            raise ConfigError(f"the backbone {name!r} has no layer {layer!r}.{hint} Its layers are: {names}.")
        indices.append(index)
    if not indices:
        raise ConfigError(f"no layer of the backbone {name!r} was chosen. Name at least one of: {', '.join(modules)}.")
    return indices


@contextmanager
def _no_word_of_unused_weights() -> Iterator[None]:
    """Hide timm's warning about the classifier's weights, which features do not need; the others were checked before."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Unexpected keys")

    logger = logging.getLogger("timm.models._builder")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
