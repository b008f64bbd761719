"""FrozenNetwork: a network that is never trained; an engine computes it, and a cache stores its features."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from anomaly_core import BaseModeler, Batch, expanded
from anomaly_features.cache import FeatureCache
from anomaly_features.engines import Engine
from anomaly_features.options import ExtractorOptions

AT_ONCE = 16  # images that a CPU computes at once; of 8, it rounds some networks differently
PIXELS = AT_ONCE * 256**2  # and of larger images so many pixels at once
QUANTISED = "quantised"  # the name of the buffer
_STATE = frozenset({"training", "frozen", "cache", "_cached_by"})  # attributes that do not affect the features


class FrozenNetwork(nn.Module, ABC):
    """A network that is never trained and stays in eval mode. An engine may compute its feature maps, and a cache store them.

    Subclasses implement :meth:`features`; callers call the module. With ``frozen = False`` it is an ordinary trainable network,
    which torch computes every time.

    Args:
        options: the engine and the cache; None: the defaults.

    Attributes:
        frozen: whether it is never trained.
        cache: the cache of feature maps; None outside :meth:`caching`.
        quantised: what the engine learnt from training images (:meth:`calibrate`), uint8 (n,); of engines that do, alone.

    Raises:
        PluginError: the engine or its library is not installed.
    """

    frozen = True
    quantised: Tensor

    def __init__(self, options: ExtractorOptions | None = None) -> None:
        super().__init__()
        self._options = options or ExtractorOptions()
        self._engine = Engine(self._options.engine)
        self.cache: FeatureCache | None = None
        self._cached_by = ""  # the engine of the features on disk
        if self._engine.calibrates:
            self.register_buffer(QUANTISED, torch.empty(0, dtype=torch.uint8))

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) RGB images in [0, 1] -> one feature map (B, C, h, w) a layer."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) RGB images in [0, 1] -> one feature map (B, C, h, w) a layer."""
        traced = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[no-untyped-call,attr-defined]
        if not self.frozen or images.requires_grad or traced:
            return self.features(images)
        compute = self._engine.compute(self, images)
        if self._cached_by not in ("", self._engine.name(images.device)):  # it was moved to a GPU, or an engine failed
            self._open_cache()
        if self.cache is None or (self._options.feature_cache == "auto" and images.device.type != "cpu"):
            return compute(images)
        with torch.no_grad():
            return self.cache(images, compute)

    def warm_up(self, size: tuple[int, int], device: torch.device) -> None:
        """Compile the network for images (H, W) on a device; otherwise that happens at the first ones.

        Raises:
            ConfigError: the named engine cannot compute the network, or not on this device.
        """
        if self.frozen and not self._engine.calibrates:
            self._engine.compute(self, torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device))

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Show training images, batches of float32 (B, 3, H, W) in [0, 1] on the CPU, to an engine that must see some first.

        Raises:
            ConfigError: the engine cannot compute the network.
            MissingLibrary: what only this step needs is not installed.
        """
        if self.frozen and self._engine.calibrates:
            self.quantised = self._engine.calibrate(self, images).to(self.quantised.device)
            if self._cached_by:
                self._open_cache()

    @property
    def engine(self) -> str:
        """The name of the engine that computes it where it is now."""
        return self._engine.name(self._device)

    def computing(self, device: torch.device) -> dict[str, str]:
        """The engine on a device, and its precision, for the run's log and manifest."""
        return {"engine": self._engine.name(device), "precision": self._engine.precision(device)}

    @property
    def _device(self) -> torch.device:
        return next((tensor.device for tensor in chain(self.buffers(), self.parameters())), torch.device("cpu"))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = state_dict.pop(key := prefix + QUANTISED, None)
        if self._engine.calibrates:  # a run of another engine may have none, and of any length
            if saved is not None:
                self.quantised = saved.to(self.quantised.device)
            state_dict[key] = self.quantised
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._engine.forget()

    @contextmanager
    def caching(self, repeated: bool) -> Iterator[None]:
        """Inside, the features of an image are computed once, depending on ``feature_cache``.

        ``disk`` stores them permanently, for this run and all others, and the cache stays in use afterwards. ``ram``, or
        ``auto`` on a CPU, keeps them in memory until the end, and only if images are repeated.

        Args:
            repeated: the same images are seen in every epoch.

        Raises:
            RunError: the folder of cached features cannot be created.
        """
        options = self._options
        if options.feature_cache == "disk":
            self._open_cache()
            yield
            return
        if options.feature_cache != "off" and repeated:
            self.cache = FeatureCache(options.cache_budget)
        try:
            yield
        finally:
            self.cache = None

    def _open_cache(self) -> None:
        folder = expanded(self._options.cache_folder) / self.identity()
        self.cache, self._cached_by = FeatureCache(self._options.cache_budget, folder), self.engine

    def train(self, mode: bool = True) -> FrozenNetwork:
        """Set the mode; a frozen network stays in eval mode, because its batch statistics must not change."""
        return super().train(mode and not self.frozen)

    def identity(self) -> str:
        """The key of the network's cached features: equal in all processes if and only if the features are equal.

        It covers the class, the engine (engines differ in the last digits), weights and buffers, and all attributes that are
        numbers or strings, such as the chosen layers: networks with the same weights may return different layers.
        """
        facts = [f"{type(self).__name__}:{self.engine}"]
        facts += [f"{name}={value!r}" for name, value in sorted(vars(self).items()) if name not in _STATE and _is_plain(value)]
        tensors = [*self.named_parameters(), *self.named_buffers()]
        facts += [f"{name}:{tuple(value.shape)}:{value.double().sum().item()!r}" for name, value in tensors]
        if self._engine.calibrates:
            facts += [hashlib.sha256(self.quantised.cpu().numpy().tobytes()).hexdigest()]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | str | None)


class ExtractorModeler(BaseModeler):
    """A mixin, before the kind of modeler: ``class MyModeler(ExtractorModeler, MemoryModeler)``.

    A method with several frozen networks overrides :meth:`fitting` and enters the ``caching`` of each.

    Attributes:
        extractor: the frozen network, built with the modeler's config as its options.
    """

    extractor: FrozenNetwork

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The extractor's feature maps of float32 (B, 3, H, W) images; on a CPU, of a few at once: what a network computes in
        between takes 15 MB an image, and more time where that does not fit the cache."""
        most = max(1, min(AT_ONCE, PIXELS // images[0, 0].numel())) if len(images) else AT_ONCE
        if images.device.type != "cpu" or len(images) <= most:
            return self.extractor(images)  # type: ignore[no-any-return]  # what a module returns is not typed
        parts = [self.extractor(part) for part in images.split(most)]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def computing(self, device: torch.device) -> dict[str, str]:
        """The extractor's engine on a device, and its precision."""
        return self.extractor.computing(device)

    def warm_up(self, device: torch.device) -> None:
        """The extractor is compiled."""
        self.extractor.warm_up(self.input_spec.output_size, device)

    def prepare_fitting(self, batches: Iterable[Batch]) -> None:
        """Engines that must see training images first do so."""
        for part in self.modules():
            if isinstance(part, FrozenNetwork):
                part.calibrate(batch.images for batch in batches)

    def fitting(self, repeated: bool) -> AbstractContextManager[None]:
        """During fitting, the extractor's features are cached according to the options."""
        return self.extractor.caching(repeated)

    def trained_state(self) -> dict[str, Tensor]:
        """The state without frozen networks: their weights are the backbone's own, which a run can load again. What an engine
        learnt of training images is there.

        Frozen parameters outside these networks are included, because batch statistics near them may still change.
        """
        frozen = tuple(
            f"{name}." for name, part in self.named_modules() if isinstance(part, FrozenNetwork) and part.frozen and name
        )
        learnt = f".{QUANTISED}"
        return {
            name: value for name, value in self.state_dict().items() if not name.startswith(frozen) or name.endswith(learnt)
        }
