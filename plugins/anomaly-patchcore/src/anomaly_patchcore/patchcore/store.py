"""PatchStore: the patches that are collected, all of them or, within a budget of memory, coresets of them.

Coresets compose: the greedy k-center of the coresets of parts covers the whole, at most as far off as both radii together
(Indyk et al., Composable core-sets for diversity and coverage maximization, PODS 2014).
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from anomaly_core import ConfigError
from anomaly_patchcore.coreset import k_center_greedy
from anomaly_patchcore.search import nearest

UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
BLOCK = 32768  # patches per coreset: its cost grows with their square
GENEROSITY = 4  # a block keeps so many times the share that the memory bank will; the rest of the work is left to the bank


def parse_bytes(text: str) -> int:
    """``2GiB``, ``500 MB`` or ``1e9`` as bytes; ConfigError where it is no size."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    try:
        if match and match[2].upper() in UNITS and float(match[1]) > 0:
            return int(float(match[1]) * UNITS[match[2].upper()])
    except ValueError:  # such as 1.2.3
        pass
    raise ConfigError(f"model.memory_budget={text!r} is no size in memory. Write a number and a unit, such as 500MB or 2GiB.")


class PatchStore:
    """Patches of one embedding, in order of arrival.

    Within a budget, when the store is full, the patches added since the last time are thinned in blocks: a greedy k-center
    keeps four times the memory bank's share of each block. If these fill the store too, all patches are thinned to half. Every
    kept patch represents some dropped ones; its ``reach`` is an upper bound of their distance to it, by the triangle
    inequality. So the error of coresets of coresets, and of other processes' coresets, stays known. If all patches fit into
    the budget, all are kept, and their coreset is exact.

    Args:
        budget: bytes of patches that are held at most, with what their coresets take; None: no bound.
        seed: of the coresets' first picks and of the projection.
        projection_dim: coresets are searched, and ``reach`` is measured, in a random projection to so many values;
            None or 0: in all.
        ratio: share of all patches that the memory bank will have.

    Attributes:
        total: how many patches have come.
        peak: the most bytes of patches that were held.
    """

    def __init__(self, budget: int | None = None, seed: int = 0, projection_dim: int | None = None, ratio: float = 0.1) -> None:
        self.budget = budget
        self.generator = torch.Generator().manual_seed(seed)
        self.projection_dim = projection_dim
        self.share = min(0.5, GENEROSITY * ratio)
        self.projection: Tensor | None = None
        self.total = 0
        self.peak = 0
        self._parts: list[Tensor] = []
        self._owners: list[Tensor] = []  # of the parts, or of the buffer's rows
        self._buffer: Tensor | None = None  # (rows, D), of which the first `_held` count
        self._reach: Tensor | None = None
        self._held = 0
        self._thinned = 0  # so many of them, the first, are coresets already

    def __len__(self) -> int:
        return self._held

    @property
    def capacity(self) -> int:
        """How many patches the budget holds; 0 before any has come, or without a budget."""
        return 0 if self._buffer is None else len(self._buffer)

    @property
    def reach(self) -> Tensor | None:
        """float32 (n,): the maximum distance of each patch to the patches it represents; None if all were kept."""
        return None if self._reach is None else self._reach[: self._held]

    @property
    def owners(self) -> Tensor:
        """int32 (n,): the number of the image that each patch comes from."""
        self._owners = [torch.cat(self._owners)] if self.budget is None else self._owners
        return self._owners[0][: self._held]

    def add(self, patches: Tensor, reach: Tensor | None = None, total: int | None = None, owners: Tensor | None = None) -> None:
        """Add float32 (n, D) patches, with ``reach`` and ``total`` if they come from another store; ``owners``: the numbers of
        their images, int32 (n,), 0 if they are not known."""
        self.total += len(patches) if total is None else total
        owners = torch.zeros(len(patches), dtype=torch.int32, device=patches.device) if owners is None else owners
        if self.budget is None:
            self._parts.append(patches)
            self._owners.append(owners)
            self._held += len(patches)
        else:
            buffer, ranges = self._room(patches)
            while len(patches):
                if self._held == len(buffer):
                    self._make_room()
                count = min(len(buffer) - self._held, len(patches))
                new = slice(self._held, self._held + count)
                buffer[new] = patches[:count]
                self._owners[0][new] = owners[:count]
                ranges[new] = 0 if reach is None else reach[:count]
                patches, owners, reach = patches[count:], owners[count:], None if reach is None else reach[count:]
                self._held += count
        size = patches.element_size() * patches.shape[1]
        self.peak = max(self.peak, self._held * size if self._buffer is None else len(self._buffer) * size)

    def patches(self) -> Tensor:
        """float32 (n, D): what is held."""
        if self._buffer is not None:
            return self._buffer[: self._held]
        self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    def shrink(self, count: int) -> None:
        """Keep coresets of at most ``count`` patches in all; a store without a budget keeps all."""
        if self._buffer is not None and self._held > count:
            self._thin(0, count / self._held)

    def project(self, patches: Tensor) -> Tensor:
        """float32 (n, D) where coresets are searched: the random projection, the same each time, or the patches themselves."""
        dim = self.projection_dim
        if not dim or dim >= patches.shape[1]:
            return patches
        if self.projection is None:
            self.projection = (torch.randn(patches.shape[1], dim, generator=self.generator) / dim**0.5).to(patches.device)
        return patches @ self.projection

    def _make_room(self) -> None:
        """Thin the patches added since the last time, or all patches if that would free less than half of the room."""
        fresh = self._held - self._thinned
        if fresh * (1 - self.share) * 2 >= self._held:
            self._thin(self._thinned, self.share)
        else:
            self._thin(0, 0.5)

    def _thin(self, start: int, share: float) -> None:
        """Keep a coreset of each block of the patches from ``start`` on."""
        assert self._buffer is not None and self._reach is not None
        end, self._held = self._held, start
        for low in range(start, end, BLOCK):
            block = self._buffer[low : min(low + BLOCK, end)]
            count = max(1, math.floor(len(block) * share))
            searched = self.project(block)
            picked = k_center_greedy(searched, count, int(torch.randint(len(block), (1,), generator=self.generator)))
            squared, owners = nearest(searched, searched[picked])
            far = squared[:, 0].sqrt() + self._reach[low : low + len(block)]
            kept = slice(self._held, self._held + count)
            self._buffer[kept] = block[picked]
            self._owners[0][kept] = self._owners[0][low : low + len(block)][picked]
            self._reach[kept] = torch.zeros_like(far[:count]).scatter_reduce(0, owners[:, 0], far, "amax")
            self._held += count
        self._thinned = self._held

    def _room(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        if self._buffer is None or self._reach is None:
            assert self.budget is not None
            size = patches.element_size() * patches.shape[1]
            searched = patches.element_size() * min(self.projection_dim or 0, patches.shape[1])
            rows = self.budget // (size + searched + 8)  # 8: its reach and its image's number
            if rows < 2:
                raise ConfigError(
                    f"model.memory_budget of {self.budget} bytes holds {rows} patches of {size} bytes. Give it at least the "
                    "size of the memory bank."
                )
            self._buffer = patches.new_empty(rows, patches.shape[1])
            self._reach = torch.zeros(rows, device=patches.device)
            self._owners = [torch.zeros(rows, dtype=torch.int32, device=patches.device)]
        return self._buffer, self._reach
