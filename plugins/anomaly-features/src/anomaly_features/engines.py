"""Engines compute frozen networks.

An engine's target is a function ``(network, size) -> compute``. It takes a :class:`FrozenNetwork` and the images' (H, W). It
returns a callable from float32 (B, 3, H, W) RGB images in [0, 1], for any B, to one float32 feature map (B, C, h, w) per layer.

An engine that must see training images first, because it quantises the network, has a calibrator (``EngineSpec.calibrator``): a
function ``(network, images) -> state`` from batches of such images to a uint8 (n,) tensor. The state is saved with the run, and
the engine's target finds it in :attr:`FrozenNetwork.quantised`.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor

from anomaly_core import (
    AnomalyError,
    Component,
    ConfigError,
    MissingLibrary,
    PluginError,
    RunError,
    has_bfloat16,
    is_out_of_memory,
    registry,
)
from anomaly_features.cache import Compute

if TYPE_CHECKING:
    from anomaly_features.network import FrozenNetwork

AUTO, TORCH = "auto", "torch"
INT8 = ("vnni", "int8", "dot", "i8mm")  # in the names of a CPU's capabilities
SAME = 1e-3  # of the greatest feature: as far as an engine that nobody named may differ from PyTorch
_ENGINES: WeakSet[Engine] = WeakSet()
_STARTED: set[str] = set()  # libraries that have threads in this process
_LOST: set[str] = set()  # and those that had them in the process that this one was forked from


def eager(network: FrozenNetwork, size: tuple[int, int]) -> Compute:
    """PyTorch runs the network, on any device and for any size."""
    return network.features


class Engine:
    """What computes a frozen network: the named engine, or with ``auto`` the first of those that are installed.

    ``auto`` is what ``$ANOMALY_ENGINE`` names, if it is set. Otherwise it is, on the CPU, the engine with the lowest rank
    (``EngineSpec.auto``) whose library is installed, and PyTorch on other devices. One that cannot compute the network, or
    computes something else than PyTorch, is left out with a warning.

    The network is compiled for each size at its first images, so weights can still be loaded before that.

    Args:
        asked: ``model.engine``.

    Raises:
        PluginError: no such engine, or its library is not installed; the message has the install command.
    """

    def __init__(self, asked: str) -> None:
        self._named = os.environ.get("ANOMALY_ENGINE") or AUTO if asked == AUTO else asked
        self._candidates = _installed() if self._named == AUTO else [_usable(self._named)]
        if asked == AUTO and self.calibrates:
            raise ConfigError(
                f"$ANOMALY_ENGINE={self._named}: a run that is fitted with this engine must say so in its config: it has a "
                f"quantised network. Unset the variable, and fit with --set model.engine={self._named}."
            )
        self._for_size: dict[tuple[int, int], Compute] = {}
        _ENGINES.add(self)

    def name(self, device: torch.device) -> str:
        """The engine that computes on a device."""
        component = self._on(device)
        return TORCH if component is None else component.name

    def precision(self, device: torch.device) -> str:
        """The precision of its computation: ``float32``, ``bfloat16`` or ``int8``."""
        component = self._on(device)
        return "float32" if component is None or _lacks_bfloat16(component) else str(component.spec.precision)

    @property
    def calibrates(self) -> bool:
        """Whether it must see training images before it computes."""
        return bool(self._candidates and self._candidates[0].spec.calibrator)

    def calibrate(self, network: FrozenNetwork, images: Iterable[Tensor]) -> Tensor:
        """What it learns from training images, float32 (B, 3, H, W) in [0, 1] on the CPU: uint8 (n,).

        Raises:
            ConfigError: it cannot compute the network.
            MissingLibrary: what only this step needs is not installed.
        """
        self._for_size.clear()
        component = self._candidates[0]
        with _refusals(component):
            state: Tensor = component.load("calibrator")(network, images)
        return state

    def compute(self, network: FrozenNetwork, images: Tensor) -> Compute:
        """The network for images of this size and device, compiled if it is the first time.

        Raises:
            ConfigError: the named engine cannot compute the network, or not on this device, or has not seen training images.
            RunError: this process was forked, and the threads of the named engine are in its parent.
        """
        component = self._on(images.device)
        if component is None or component.name == TORCH:
            return network.features
        if images.device.type != "cpu":
            raise ConfigError(
                f"model.engine={component.name} computes on the CPU, and the run is on {images.device}. "
                "Choose base.device=cpu (--device cpu), or model.engine=torch."
            )
        if component.spec.module in _LOST:
            raise RunError(
                f"this process was forked from one that computed with the engine {component.name!r}, whose threads do not "
                "survive a fork. Load the detector before any other, start processes with `spawn`, or name engine=torch."
            )
        if self.calibrates and not network.quantised.numel():
            raise ConfigError(
                f"model.engine={component.name} computes what was quantised when the run was fitted, and this network was not. "
                f"Fit with --set model.engine={component.name}, or choose another engine. (A method calls `calibrate` "
                "of its frozen networks before it is fitted, as every ExtractorModeler does.)"
            )
        size = (images.shape[-2], images.shape[-1])
        while size not in self._for_size:
            component = self._candidates[0]
            if component.name == TORCH:
                return network.features
            _STARTED.add(component.spec.module)
            try:
                self._for_size[size] = _compiled(component, network, images, check=self._named == AUTO)
            except AnomalyError as error:
                if self._named != AUTO:
                    raise
                self._for_size.clear()  # all sizes in one engine
                self._candidates = self._candidates[1:]
                others = self.name(images.device)
                reason = str(error).rstrip(".")
                warnings.warn(f"model.engine=auto takes {others} and not {component.name}: {reason}.", stacklevel=2)
                if self._on(images.device) is None:
                    return network.features
        return self._for_size[size]

    def forget(self) -> None:
        """Compile anew at the next images: the weights are others now."""
        self._for_size.clear()

    def _on(self, device: torch.device) -> Component | None:
        """The engine for a device; None for PyTorch."""
        if self._named == AUTO and (device.type != "cpu" or _LOST):
            return None
        return self._candidates[0] if self._candidates else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_for_size": {}}  # a copy compiles for itself


def _usable(name: str) -> Component:
    """A named engine; PluginError if there is none, or its library is not installed."""
    component = registry.engines[name]
    component.require_library()
    component.load()
    if _lacks_bfloat16(component):
        warnings.warn(
            f"model.engine={name}: this CPU has no bfloat16, and the engine computes in float32. model.engine=auto says so.",
            stacklevel=2,
        )
    if component.spec.precision == "int8" and not has_int8():
        warnings.warn(
            f"model.engine={name}: this CPU has no instructions for INT8 (VNNI, AMX or ARM's dot products). The engine "
            "computes the same, and gains less over float32.",
            stacklevel=2,
        )
    return component


def _installed() -> list[Component]:
    """The engines of ``auto`` whose libraries are installed, the first choice first."""
    ranked = []
    for name in registry.engines:
        try:
            component = registry.engines[name]
            if component.spec.auto is not None:
                component.require_library()
                ranked.append((component.spec.auto, name, component))
        except MissingLibrary:
            continue
        except PluginError as error:
            warnings.warn(f"model.engine=auto passes over the engine {name!r}: {error}", stacklevel=2)
    return [component for _, _, component in sorted(ranked, key=lambda one: one[:2])]


def has_int8() -> bool:
    """Whether this CPU multiplies and adds several INT8 numbers in one instruction: VNNI, AMX, or ARM's dot products."""
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    vnni = getattr(torch.cpu, "_is_vnni_supported", bool)()  # older versions of PyTorch know no more
    return bool(vnni) or any(there is True and any(word in name for word in INT8) for name, there in has.items())


def _lacks_bfloat16(component: Component) -> bool:
    return component.spec.precision == "bfloat16" and not has_bfloat16()


def _compiled(component: Component, network: FrozenNetwork, images: Tensor, check: bool) -> Compute:
    """The network in an engine; ConfigError if it cannot be compiled or, with ``check``, its features are not PyTorch's."""
    with _refusals(component):
        compute: Compute = component.load()(network, (images.shape[-2], images.shape[-1]))
        computed = compute(images[:1]) if check else []
    with in_one_thread():
        expected = network.features(images[:1]) if check else []
    for level, reference in zip(computed, expected, strict=True):
        off = float((level - reference).abs().max() / reference.abs().max().clamp(min=1e-30))
        if not off < SAME:
            raise ConfigError(f"{_cannot(component)}: its features differ from PyTorch's by {off:.1g} of the greatest")
    return compute


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Inside, PyTorch computes in one thread: for an image or two, while others decode, more would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cannot(component: Component) -> str:
    return f"{component.owner} cannot compute the frozen network"


@contextmanager
def _refusals(component: Component) -> Iterator[None]:
    """Whatever an engine raises as a ConfigError; engines and exporters raise many kinds of exceptions."""
    try:
        yield
    except AnomalyError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip().rstrip(".")[:300]
        cause = f"{_cannot(component)}: {reason}"
        raise ConfigError(f"model.engine={component.name}: {cause}. Choose model.engine=torch.") from error


def _leave() -> None:
    """After a fork, in the child: what was compiled waits for threads that the parent alone has, even when it is given back.
    So nobody gives it back."""
    for engine in _ENGINES:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine._for_size))
        engine._for_size = {}
    _LOST.update(_STARTED)


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_leave)
