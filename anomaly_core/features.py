"""Frozen features are computed once: a cache by image content, in memory or on disk."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from anomaly_core.errors import RunError
from anomaly_core.files import write_whole

Key = tuple[int, int]
Compute = Callable[[Tensor], list[Tensor]]

_STATE = frozenset({"training", "frozen", "engine"})  # attributes that do not decide what a network computes


class FeatureCache:
    """Feature maps by the content of their image: who asks for the same image again gets what was computed before.

    It serves networks whose output depends on the image alone (frozen, in eval mode). Images that are augmented at random are
    never met again, and would only fill it.

    Args:
        budget: bytes that it may hold; what comes later is computed every time.
        folder: where features are kept for other runs, as memory-mapped files; None keeps them in memory.
    """

    def __init__(self, budget: int, folder: str | Path | None = None) -> None:
        self.budget = budget
        self.folder = None if folder is None else Path(folder)
        self.used = 0
        self.hits = 0
        self.misses = 0
        self._held: dict[Key, list[Tensor]] = {}
        self._multipliers: dict[tuple[int, torch.device], Tensor] = {}
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(
                    f"cannot make the folder of cached features {str(self.folder)!r}: {error}. Name another with "
                    "base.cache_folder, or set base.feature_cache=auto."
                ) from error
            self.used = sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    def __call__(self, images: Tensor, compute: Compute) -> list[Tensor]:
        """Feature maps of float32 (B, 3, H, W) images: found, or computed for those that were not, in one batch."""
        keys = self.fingerprints(images)
        found = {key: maps for key in dict.fromkeys(keys) if (maps := self._get(key)) is not None}
        missing = [i for i, key in enumerate(keys) if key not in found]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if len(missing) == len(keys):
            made = compute(images)
            self._keep(keys, made)
            return made
        if missing:
            made = compute(images[missing])
            self._keep([keys[i] for i in missing], made)
            found |= {keys[i]: [level[n] for level in made] for n, i in enumerate(missing)}
        levels = zip(*(found[key] for key in keys), strict=True)
        return [torch.stack([maps.to(images.device, non_blocking=True) for maps in level]) for level in levels]

    def fingerprints(self, images: Tensor) -> list[Key]:
        """128 bits a (3, H, W) float32 image: two multilinear hashes of its bit patterns, on the images' device.

        Images that differ share one with probability below 2**-100 (Lemire and Kaser, Strongly universal string hashing is
        fast, 2014).
        """
        bits = images.detach().contiguous().view(torch.int32).flatten(1).long()
        shape = bits.new_tensor(images.shape[1:])  # a black image's bits are zero at every size
        place = (bits.shape[1], bits.device)
        if place not in self._multipliers:
            draw = torch.Generator().manual_seed(0x5EED)
            made = torch.randint(-(2**62), 2**62, (2, bits.shape[1] + len(shape)), generator=draw) * 2 + 1
            self._multipliers[place] = made.to(bits.device)
        split = (bits.shape[1], len(shape))
        parts = (row.split(split) for row in self._multipliers[place])
        first, second = (((bits * of_bits).sum(dim=1) + (shape * of_shape).sum()).tolist() for of_bits, of_shape in parts)
        return list(zip(first, second, strict=True))

    def _keep(self, keys: Sequence[Key], levels: list[Tensor]) -> None:
        for number, key in enumerate(keys):
            maps = [level[number].detach() for level in levels]
            size = sum(part.numel() * part.element_size() for part in maps)
            if self.used + size > self.budget:
                return
            if self.folder is None:
                self._held[key] = [part.clone() for part in maps]
            else:
                self._write(key, maps)  # in place of a damaged one too
            self.used += size

    def _get(self, key: Key) -> list[Tensor] | None:
        if self.folder is None:
            return self._held.get(key)
        try:
            return [part for _, part in sorted(load_file(self._file(key)).items())]
        except (OSError, SafetensorError):  # not there yet, or torn by a full disk: computed again
            return None

    def _write(self, key: Key, maps: list[Tensor]) -> None:
        try:
            write_whole(self._file(key), save({f"{i:03d}": part.cpu().contiguous().clone() for i, part in enumerate(maps)}))
        except RunError as error:
            self.budget = 0  # nothing more is kept, and nothing is lost
            warnings.warn(f"{error} Features are no longer kept, and computed every time.", stacklevel=2)

    def _file(self, key: Key) -> Path:
        assert self.folder is not None
        return self.folder / f"{key[0] & (2**64 - 1):016x}{key[1] & (2**64 - 1):016x}.safetensors"


class FrozenNetwork(nn.Module):
    """A network that is never trained and stays in eval mode; its feature maps may come from a cache.

    Subclasses implement :meth:`features`; callers call the module.
    """

    cache: FeatureCache | None = None
    frozen = True
    engine: str = "torch"
    compiled: Compute | None = None  # what the engine made of :meth:`features`

    def features(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) images in [0, 1] -> one feature map (B, C, h, w) a layer."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> list[Tensor]:
        """float32 (B, 3, H, W) images in [0, 1] -> one feature map (B, C, h, w) a layer."""
        if not self.frozen:
            return self.features(images)
        compute = self.compiled or self.features
        if self.cache is None:
            return compute(images)
        with torch.no_grad():
            return self.cache(images, compute)

    def train(self, mode: bool = True) -> FrozenNetwork:
        """A frozen one stays in eval mode, whatever its owner does: batch statistics must not change."""
        return super().train(mode and not self.frozen)

    def identity(self) -> str:
        """Names the network's cached features: the same in any process for the same features of an image, and for no others.

        It covers class, engine (engines differ in the last digits), weights and buffers, and every attribute of numbers and
        words, such as the chosen layers: networks of the same weights may give different layers.
        """
        facts = [f"{type(self).__name__}:{self.engine}"]
        facts += [f"{name}={value!r}" for name, value in sorted(vars(self).items()) if name not in _STATE and _is_plain(value)]
        tensors = [*self.named_parameters(), *self.named_buffers()]
        facts += [f"{name}:{tuple(value.shape)}:{value.double().sum().item()!r}" for name, value in tensors]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | str | None)


def frozen_networks(module: nn.Module) -> list[FrozenNetwork]:
    """The frozen networks inside a modeler."""
    return [part for part in module.modules() if isinstance(part, FrozenNetwork) and part.frozen]
