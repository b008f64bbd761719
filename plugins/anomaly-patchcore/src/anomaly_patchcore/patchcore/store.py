"""PatchStore: the patches that are collected, all of them or, within a budget of memory, a coreset renewed on the way."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from anomaly_core.errors import ConfigError
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

    Within a budget, a full store keeps the half of its patches that a greedy k-center picks, and each of these takes over how
    far away those lie for which it now stands: ``reach``. By the triangle inequality no patch that ever came lies farther than
    ``reach`` from the one that stands for it; so that coresets of coresets, and of other processes' coresets, know how far
    they may be off.

    Args:
        budget: bytes of patches that are held at most; None: no bound.
        seed: of the coreset's first picks and of the projection.
        projection_dim: coresets are searched, and ``reach`` is measured, in a random projection to so many values;
            None or 0: in all.

    Attributes:
        total: how many patches have come.
        peak: the most bytes of patches that were held.
    """

    def __init__(self, budget: int | None = None, seed: int = 0, projection_dim: int | None = None) -> None:
        self.budget = budget
        self.generator = torch.Generator().manual_seed(seed)
        self.projection_dim = projection_dim
        self.projection: Tensor | None = None
        self.total = 0
        self.peak = 0
        self._parts: list[Tensor] = []
        self._buffer: Tensor | None = None  # (rows, D), of which the first `_held` count
        self._reach: Tensor | None = None
        self._held = 0

    def __len__(self) -> int:
        return self._held

    @property
    def capacity(self) -> int:
        """How many patches the budget holds; 0 before any has come, or without a budget."""
        return 0 if self._buffer is None else len(self._buffer)

    @property
    def reach(self) -> Tensor | None:
        """float32 (n,): how far those lie, at most, for which a patch stands; None where all were kept."""
        return None if self._reach is None else self._reach[: self._held]

    def add(self, patches: Tensor, reach: Tensor | None = None, total: int | None = None) -> None:
        """Take in float32 (n, D) patches; ``reach`` and ``total`` where they come from another store."""
        self.total += len(patches) if total is None else total
        if self.budget is None:
            self._parts.append(patches)
            self._held += len(patches)
        else:
            buffer, ranges = self._room(patches)
            while len(patches):
                if self._held == len(buffer):
                    self.shrink(len(buffer) // 2)
                count = min(len(buffer) - self._held, len(patches))
                new = slice(self._held, self._held + count)
                buffer[new] = patches[:count]
                ranges[new] = 0 if reach is None else reach[:count]
                patches, reach = patches[count:], None if reach is None else reach[count:]
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
        """Keep a coreset of at most ``count`` patches; a store without a budget keeps all."""
        if self._buffer is None or self._reach is None or self._held <= count:
            return
        searched = self.project(self.patches())
        picked = k_center_greedy(searched, count, int(torch.randint(self._held, (1,), generator=self.generator)))
        squared, owners = nearest(searched, searched[picked])
        reach = squared[:, 0].sqrt() + self._reach[: self._held]
        self._buffer[:count] = self._buffer[picked]
        self._reach[:count] = torch.zeros_like(reach[:count]).scatter_reduce(0, owners[:, 0], reach, "amax")
        self._held = count

    def project(self, patches: Tensor) -> Tensor:
        """float32 (n, D) where coresets are searched: the random projection, the same each time, or the patches themselves."""
        dim = self.projection_dim
        if not dim or dim >= patches.shape[1]:
            return patches
        if self.projection is None:
            self.projection = (torch.randn(patches.shape[1], dim, generator=self.generator) / dim**0.5).to(patches.device)
        return patches @ self.projection

    def _room(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        if self._buffer is None or self._reach is None:
            assert self.budget is not None
            size = patches.element_size() * patches.shape[1]
            rows = self.budget // (size + 4)  # 4: its reach
            if rows < 2:
                raise ConfigError(
                    f"model.memory_budget of {self.budget} bytes holds {rows} patches of {size} bytes. Give it at least the "
                    "size of the memory bank."
                )
            self._buffer = patches.new_empty(rows, patches.shape[1])
            self._reach = torch.zeros(rows, device=patches.device)
        return self._buffer, self._reach
