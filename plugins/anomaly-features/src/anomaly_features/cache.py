"""FeatureCache: an image's features are computed once and cached by the image's content, in memory or on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from anomaly_core import RunError, open_untrusted, write_whole

Key = tuple[int, int]
Compute = Callable[[Tensor], list[Tensor]]


def fingerprints(images: Tensor) -> list[Key]:
    """128 bits per (3, H, W) float32 image: two multilinear hashes of its bit patterns, on the images' device.

    Different images have the same hash with probability below 2**-100 (Lemire and Kaser, Strongly universal string
    hashing is fast, 2014).
    """
    rows = images.detach().contiguous().view(torch.int32).flatten(1)
    shape = rows.new_tensor(images.shape[1:])  # include the shape: a black image's bits are zero at every size
    of_bits, of_shape = _multipliers(rows.shape[1] + len(shape), rows.device).split((rows.shape[1], len(shape)), dim=1)
    products = torch.empty_like(of_bits)  # of one image, again and again: of all of them, they would not fit the cache
    sums = of_bits.new_empty(len(rows), 2)
    for row, pair in zip(rows, sums, strict=True):
        torch.sum(torch.mul(of_bits, row, out=products), dim=1, out=pair)
    first, second = (sums + (of_shape * shape).sum(dim=1)).T.tolist()
    return list(zip(first, second, strict=True))


@lru_cache(maxsize=4)
def _multipliers(count: int, device: torch.device) -> Tensor:
    """int64 (2, count), odd."""
    draw = torch.Generator().manual_seed(0x5EED)
    return (torch.randint(-(2**62), 2**62, (2, count), generator=draw) * 2 + 1).to(device)


class FeatureCache:
    """Feature maps by the content of their image: the features of an image seen before are not computed again.

    Only for networks whose output depends on the image alone (frozen, in eval mode). Randomly augmented images never repeat
    and would only fill the cache.

    Args:
        budget: maximum size in bytes; once it is full, further features are computed every time.
        folder: where features are stored for other runs, as memory-mapped files; None keeps them in memory.

    Attributes:
        used: bytes in use.
        hits, misses: the numbers of images with cached features, and of those that had to be computed.

    Raises:
        RunError: the folder cannot be created.
    """

    def __init__(self, budget: int, folder: str | Path | None = None) -> None:
        self.budget = budget
        self.folder = None if folder is None else Path(folder)
        self.used = 0
        self.hits = 0
        self.misses = 0
        self._held: dict[Key, list[Tensor]] = {}
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(
                    f"cannot make the folder of cached features {str(self.folder)!r}: {error}. Name another with "
                    "model.cache_folder, or set model.feature_cache=auto."
                ) from error
            self.used = sum(file.lstat().st_size for file in self.folder.glob("*.safetensors"))

    def __call__(self, images: Tensor, compute: Compute) -> list[Tensor]:
        """Feature maps of float32 (B, 3, H, W) images: from the cache, and the others computed in one batch."""
        keys = fingerprints(images)
        held = {key: maps for key in dict.fromkeys(keys) if (maps := self._get(key)) is not None}
        missing = [i for i, key in enumerate(keys) if key not in held]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if len(missing) == len(keys):
            computed = compute(images)
            self._keep(keys, computed)
            return computed
        if missing:
            computed = compute(images[missing])
            self._keep([keys[i] for i in missing], computed)
            held |= {keys[i]: [level[n] for level in computed] for n, i in enumerate(missing)}
        levels = zip(*(held[key] for key in keys), strict=True)
        return [torch.stack([maps.to(images.device, non_blocking=True) for maps in level]) for level in levels]

    def _keep(self, keys: Sequence[Key], levels: list[Tensor]) -> None:
        for number, key in enumerate(keys):
            maps = [level[number].detach() for level in levels]
            size = sum(part.numel() * part.element_size() for part in maps)
            if self.used + size > self.budget:
                return
            if self.folder is None:
                self._held[key] = [part.clone() for part in maps]
            else:
                self._write(key, maps)  # also replaces a damaged file
            self.used += size

    def _get(self, key: Key) -> list[Tensor] | None:
        if self.folder is None:
            return self._held.get(key)
        try:
            open_untrusted(self._file(key)).close()  # a pipe would block for ever
            return [part for _, part in sorted(load_file(self._file(key)).items())]
        except (OSError, SafetensorError):  # missing, or truncated by a full disk: compute again
            return None

    def _write(self, key: Key, maps: list[Tensor]) -> None:
        try:
            content = save({f"{i:03d}": part.cpu().contiguous().clone() for i, part in enumerate(maps)})
            write_whole(self._file(key), content, "Free some space, or name another folder with model.cache_folder.")
        except RunError as error:
            self.budget = 0  # stop caching; the run continues
            warnings.warn(f"{error} Features are no longer kept, and computed every time.", stacklevel=2)

    def _file(self, key: Key) -> Path:
        assert self.folder is not None
        return self.folder / f"{key[0] & (2**64 - 1):016x}{key[1] & (2**64 - 1):016x}.safetensors"
