"""Engines compute frozen networks.

An engine's target is a function ``(network, size) -> compute``. It takes a :class:`FrozenNetwork` and the images' (H, W). It
returns a callable from float32 (B, 3, H, W) RGB images in [0, 1], for any B, to one float32 feature map (B, C, h, w) per layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from anomaly_core import ConfigError, registry
from anomaly_features.cache import Compute

if TYPE_CHECKING:
    from anomaly_features.network import FrozenNetwork


def eager(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """The default: PyTorch runs the network, on any device and for any size."""
    return network.features


def compiled(network: FrozenNetwork, name: str) -> tuple[str, Compute | None]:
    """The engine's name and the network that it computes; None for the network if torch runs it directly.

    The network is compiled for each size at its first images, so weights can still be loaded before that.

    Raises:
        PluginError: no such engine, or its library is not installed; the message has the install command.
    """
    component = registry.engines[name]
    component.require_library()
    compile_network = component.load()
    return component.name, None if compile_network is eager else _Compiled(compile_network, network, component.name)


class _Compiled:
    """A network that an engine computes, compiled for each image size."""

    def __init__(
        self, compile_network: Callable[[FrozenNetwork, tuple[int, int]], Compute], network: FrozenNetwork, engine: str
    ) -> None:
        self._compile = compile_network
        self._network = network
        self._engine = engine
        self._for_size: dict[tuple[int, int], Compute] = {}

    def __call__(self, images: Tensor) -> list[Tensor]:
        if images.device.type != "cpu":
            raise ConfigError(
                f"model.engine={self._engine} computes on the CPU, and the run is on {images.device}. "
                "Choose base.device=cpu (--device cpu), or model.engine=torch."
            )
        size = (images.shape[-2], images.shape[-1])
        if size not in self._for_size:
            self._for_size[size] = self._compile(self._network, size)
        return self._for_size[size](images)
