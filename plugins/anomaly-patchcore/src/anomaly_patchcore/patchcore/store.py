"""PatchStore: the patches that are collected, all of them or coresets of them.

Coresets compose: the greedy k-center of the coresets of parts covers the whole, at most as far off as both radii together
(Indyk et al., Composable core-sets for diversity and coverage maximization, PODS 2014).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError
from anomaly_patchcore.coreset import k_center_greedy
from anomaly_patchcore.patchcore.rows import Rows
from anomaly_patchcore.search import nearest

BLOCK = 32768  # patches per coreset: its cost grows with their square
GENEROSITY = 4  # a block keeps so many times the share that the memory bank will; the rest of the work is left to the bank
WORK = 160 * 2**20  # bytes of a budget, but no more than half of it, for what searches hold whatever the number of patches
SAMPLE = 16384  # patches, drawn at random, to which the coreset's distance is measured: 1 in 5,000 is missed in 5 % of draws
STATE = 72  # bytes that a coreset, and then cross-fitting, hold for each patch beside its coordinates


class Chosen(NamedTuple):
    """A memory bank's patches among those that it was chosen from.

    Attributes:
        picked: int64 (M,): which of the patches the bank has, in its order.
        patches: (N, D).
        searched: float32 (N, d): the patches where the coreset was searched.
    """

    picked: Tensor
    patches: Rows | Tensor
    searched: Tensor


class PatchStore:
    """Patches of one embedding, in order of arrival.

    ``streamed``, each block of patches is thinned as soon as it is full: a greedy k-center keeps four times the memory bank's
    share of it. Within a budget, that is done when the store is full; if what is kept fills it too, all patches are thinned to
    half. Every kept patch represents some dropped ones; its ``reach`` is an upper bound of their distance to it, by the
    triangle inequality. So the error of coresets of coresets, and of other processes' coresets, stays known. If all patches
    fit into the budget, all are kept, and their coreset is exact.

    Args:
        budget: bytes that may be held at most: patches, what their coresets take, the memory bank, and what leaving images
            out of it takes; None: no bound.
        seed: of the coresets' first picks and of the projection.
        projection_dim: coresets are searched, and ``reach`` is measured, in a random projection to so many values;
            None or 0: in all.
        ratio: share of all patches that the memory bank will have.
        size: how many patches the memory bank will have; None: their share decides.
        streamed: whether coresets of blocks are kept, also without a budget.
        dtype: in which patches are held; coresets are always searched in float32.
        second: whether a second bank is held beside the first, such as a whitened one.

    Attributes:
        rows: the patches, (n, D).
        total: how many patches have come.
        peak: the most bytes of patches that were held.
        sample: float32 (n, d): patches drawn at random from all that have come, where coresets are searched; None for a store
            that drops nothing, or got patches of other stores.
    """

    def __init__(
        self,
        budget: int | None = None,
        seed: int = 0,
        projection_dim: int | None = None,
        ratio: float = 0.1,
        size: int | None = None,
        streamed: bool = False,
        dtype: torch.dtype = torch.float32,
        second: bool = False,
    ) -> None:
        self.budget = budget
        self.second = second
        self.generator: torch.Generator | None = torch.Generator().manual_seed(seed)
        self.projection_dim = projection_dim
        self.ratio = ratio
        self.size = size
        self.streamed = streamed
        self.projection: Tensor | None = None
        self.rows = Rows(dtype)
        self.total = 0
        self.peak = 0
        self._origins = Rows(torch.int32)  # (n, 3): image, row, column
        self._reach = Rows(torch.float32)
        self.sample: Tensor | None = None
        self._keys = torch.empty(0, dtype=torch.float64)  # of the sample's patches: the smallest of all random keys
        # of its own, so that picks are the same without a sample
        self._draw: torch.Generator | None = torch.Generator().manual_seed(seed + 1)
        self._thinned = 0  # so many patches, the first, are coresets already

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def thins(self) -> bool:
        """Whether patches may be dropped."""
        return self.streamed or self.budget is not None

    @property
    def wanted(self) -> int:
        """How many patches the memory bank is to have of those that have come."""
        return self.wanted_of(self.total)

    def wanted_of(self, total: int) -> int:
        """How many patches the memory bank is to have of so many."""
        return max(1, min(self.size, total) if self.size else int(total * self.ratio))

    def least(self, total: int, dim: int) -> tuple[int, int]:
        """The least bytes that a budget needs to hold the memory bank of ``total`` patches of ``dim`` values; and how many
        patches a bank can have within the budget, which must be set."""
        row, entry, room = self._sizes(dim)
        needed = self.wanted_of(total) * (row + entry)
        return needed + min(self._work(dim), needed), room // (row + entry)

    @property
    def capacity(self) -> int:
        """How many patches the budget holds; 0 before any has come, or without a budget."""
        return self._capacity(self.rows.width) if self.budget is not None and len(self) else 0

    @property
    def reach(self) -> Tensor | None:
        """float32 (n,): the maximum distance of each patch to the patches it represents; None if all were kept."""
        return self._reach[:] if len(self._reach) else None

    @property
    def origins(self) -> Tensor:
        """int32 (n, 3): of each patch, the number of its image, and its row and column there."""
        return self._origins[:]

    def add(
        self, patches: Tensor, reach: Tensor | None = None, total: int | None = None, origins: Tensor | None = None
    ) -> None:
        """Add float32 (n, D) patches, with ``reach`` and ``total`` if they come from another store; ``origins``: the numbers of
        their images, and their rows and columns there, int32 (n, 3), 0 if they are not known.

        Raises:
            ConfigError: the budget does not hold two patches.
            DataError: a value is too large for the store's precision.
        """
        if origins is None:
            origins = torch.zeros(len(patches), 3, dtype=torch.int32, device=patches.device)
        self._require_finite(patches)
        room = self._capacity(patches.shape[1]) if self.budget is not None else 0
        if self.thins and not len(self._reach) and reach is not None:
            self._reach.append(torch.zeros(len(self), device=patches.device))
        self.total += len(patches) if total is None else total
        if self.thins:
            self._take_sample(patches if reach is None else None)
        while len(patches):
            if self.streamed and len(self) - self._thinned >= BLOCK:
                self._thin(self._thinned, self._share())
            if room and len(self) >= room:
                self._make_room()
            count = min(len(patches), BLOCK, *([room - len(self)] if room else []))
            self.rows.append(patches[:count])
            self._origins.append(origins[:count])
            if reach is not None or len(self._reach):
                self._reach.append(torch.zeros(count, device=patches.device) if reach is None else reach[:count])
            patches, origins, reach = patches[count:], origins[count:], None if reach is None else reach[count:]
            self.peak = max(self.peak, self.rows.nbytes)

    def _take_sample(self, patches: Tensor | None) -> None:
        """Let each of the patches that came so far be in the sample with the same probability; None: they are a selection."""
        if patches is None:
            self.sample, self._draw = None, None
        if patches is None or self._draw is None:
            return
        keys = torch.rand(len(patches), generator=self._draw, dtype=torch.float64)
        bound = float(self._keys.max()) if len(self._keys) == SAMPLE else 1.0
        chosen = (keys < bound).nonzero()[:, 0]
        new = self.project(patches[chosen.to(patches.device)])
        self._keys = torch.cat([self._keys, keys[chosen]])
        self.sample = new if self.sample is None else torch.cat([self.sample, new])
        if len(self._keys) > SAMPLE:
            self._keys, order = self._keys.topk(SAMPLE, largest=False)
            self.sample = self.sample[order.to(new.device)]

    def patches(self) -> Tensor:
        """float32 (n, D): a copy of what is held."""
        return self.rows[:].float()

    def searched(self) -> Tensor:
        """float32 (n, d): the patches where coresets are searched. Where that is in all values, they are moved there, so that
        the store is empty afterwards."""
        first = self.rows[:1].float()
        dim = self.project(first).shape[1]
        if dim == first.shape[1]:
            return self.rows.drained()
        projected = first.new_empty(len(self), dim)
        done = 0
        for part in self.rows.parts(BLOCK):
            projected[done : done + len(part)] = self.project(part.float())
            done += len(part)
        return projected

    def shrink(self, count: int) -> None:
        """Keep coresets of at most ``count`` patches in all; a store that drops nothing keeps all."""
        if self.thins and len(self) > count:
            self._thin(0, count / len(self))

    def settle(self) -> int:
        """Make room for the memory bank, and how many patches it can have: those wanted, or as many as the budget holds."""
        count = min(self.wanted, len(self))
        if self.budget is None:
            return count
        row, entry, room = self._sizes(self.rows.width)
        count = max(1, min(count, room // (row + entry)))
        self.shrink(max(count, (room - count * entry) // row))
        return min(count, len(self))

    def project(self, patches: Tensor) -> Tensor:
        """float32 (n, D) where coresets are searched: the random projection, the same each time, or the patches themselves."""
        dim = self.projection_dim
        if not dim or dim >= patches.shape[1]:
            return patches
        if self.projection is None:
            self.projection = (torch.randn(patches.shape[1], dim, generator=self.generator) / dim**0.5).to(patches.device)
        return patches @ self.projection

    def _share(self) -> float:
        """Of a block's patches that are kept."""
        share = self.wanted / self.total
        return max(share, min(0.5, GENEROSITY * share))

    def _make_room(self) -> None:
        """Thin the patches added since the last time, or all patches if that would free less than half of the room."""
        fresh, share = len(self) - self._thinned, self._share()
        if fresh * (1 - share) * 2 >= len(self):
            self._thin(self._thinned, share)
        else:
            self._thin(0, 0.5)

    def _thin(self, start: int, share: float) -> None:
        """Keep a coreset of each block of the patches from ``start`` on."""
        if not len(self._reach):
            self._reach.append(torch.zeros(len(self), device=self.rows.device))
        low = held = start
        for block in self.rows.parts(self._block(), start):
            end = low + len(block)
            count = max(1, math.floor(len(block) * share))
            searched = self.project(block.float())
            picked = k_center_greedy(searched, count, int(torch.randint(len(block), (1,), generator=self.generator)))
            squared, places = nearest(searched, searched[picked])
            far = squared[:, 0].sqrt() + self._reach[low:end]
            self.rows.replace(held, block[picked])
            self._origins.replace(held, self._origins[low:end][picked])
            self._reach.replace(held, torch.zeros_like(far[:count]).scatter_reduce(0, places[:, 0], far, "amax"))
            low, held = end, held + count
        for rows in (self.rows, self._origins, self._reach):
            rows.truncate(held)
        self._thinned = held

    def _block(self) -> int:
        """How many patches are thinned at once: within a budget, in the memory that the bank's coreset will need."""
        if self.budget is None:
            return BLOCK
        dim = self.rows.width
        spare = self._sizes(dim)[0] - self.rows.itemsize * dim
        return max(2, min(BLOCK, len(self) * spare // (4 * dim + 4 * (self.projection_dim or 0) + STATE)))

    def _sizes(self, dim: int) -> tuple[int, int, int]:
        """Bytes of a patch and of an entry of the memory bank, with all that is held for it, and bytes for both."""
        assert self.budget is not None
        searched = 4 * self._projected(dim) if self._projected(dim) < dim else 0
        if not searched and self.rows.itemsize < 4:  # they are moved to float32
            searched = 4 * dim
        row = self.rows.itemsize * dim + searched + STATE
        banks = (28 if self.second else 20) * dim  # and of the second, one without an image
        entry = banks + 12 * (searched // 4 or dim)  # the bank, one without an image and its index; the coreset's centres
        return row, entry, self.budget - min(self._work(dim), self.budget // 2)

    def _work(self, dim: int) -> int:
        """Bytes that are held whatever the number of patches."""
        return WORK + 4 * SAMPLE * self._projected(dim)

    def _projected(self, dim: int) -> int:
        """How many values coresets are searched in."""
        return min(self.projection_dim or dim, dim)

    def _capacity(self, dim: int) -> int:
        """How many patches of ``dim`` values the budget holds, with the memory bank that would be theirs."""
        row, entry, room = self._sizes(dim)
        share = self.ratio if self.size is None else 0
        rows = int((room - (self.size or 0) * entry) // (row + share * entry))
        rows = max(rows, room // (row + entry))  # a bank so large that it takes nearly all
        if rows < 2:
            raise ConfigError(
                f"model.memory_budget of {self.budget} bytes holds {rows} patches of {self.rows.itemsize * dim} bytes, with "
                "what is computed from them. Give it at least a few times the size of the memory bank."
            )
        return rows

    def _require_finite(self, patches: Tensor) -> None:
        if self.rows.dtype == torch.float16 and not (patches.abs().amax() <= torch.finfo(torch.float16).max):
            raise DataError(
                f"the patches hold values up to {float(patches.abs().max()):.3g}, too large for model.collect_dtype=float16. "
                "Use model.collect_dtype=float32."
            )
