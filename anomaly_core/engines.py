"""Engines: what computes the frozen networks of a modeler."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from anomaly_core.errors import ConfigError, PluginError
from anomaly_core.features import Compute, FrozenNetwork, frozen_networks
from anomaly_core.registry import registry


def eager(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """The default: the network as PyTorch runs it, on any device and for any size."""
    return network.features


def use_engine(modeler: nn.Module, name: str) -> None:
    """Let every frozen network of a modeler compute in an engine, from now on, in fit and predict alike.

    Each is compiled when it meets the first images of a size, so that weights may still be loaded before.

    Raises:
        PluginError: no such engine, or its library is not installed; the message has the command.
    """
    component = registry.engines[name]
    require_library(component)
    compile_network = component.load()
    networks = frozen_networks(modeler)
    if compile_network is not eager and not networks:
        warnings.warn(
            f"base.engine={name} has nothing to compute: {type(modeler).__name__} has no frozen network, and runs in torch.",
            stacklevel=2,
        )
    for network in networks:
        network.engine = component.name
        network.compiled = None if compile_network is eager else _Compiled(compile_network, network)


def require_library(component: Any) -> None:
    """PluginError where the library that an engine needs is not installed."""
    module = component.spec.module
    if module and find_spec(module) is None:
        raise PluginError(
            f"the engine {component.name!r} of {component.owner} needs {module}, which is not installed: "
            f"{component.spec.install or f'pip install {module}'}"
        )


class _Compiled:
    """What an engine makes of a network, for each size of image that comes."""

    def __init__(self, compile_network: Callable[[FrozenNetwork, tuple[int, int]], Compute], network: FrozenNetwork) -> None:
        self._compile = compile_network
        self._network = network
        self._made: dict[tuple[int, int], Compute] = {}

    def __call__(self, images: Tensor) -> list[Tensor]:
        if images.device.type != "cpu":
            raise ConfigError(
                f"base.engine={self._network.engine} computes on the CPU, and the run is on {images.device}. "
                "Choose base.device=cpu (--device cpu), or base.engine=torch."
            )
        size = (images.shape[-2], images.shape[-1])
        if size not in self._made:
            self._made[size] = self._compile(self._network, size)
        return self._made[size](images)
