"""Rows: a matrix that grows by rows, in blocks, so that nothing is copied, or held twice, as it grows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import torch
from torch import Tensor

LARGEST = 2**26  # bytes of a block; until then, a block is as large as all before it
SMALLEST = 2**16


class Rows:
    """Rows of one shape, of which the last can be dropped again.

    Args:
        dtype: the precision in which they are held.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.itemsize = torch.empty(0, dtype=dtype).element_size()
        self._blocks: list[Tensor] = []  # (rows, ...) each, all full but the last
        self._firsts: list[int] = []  # the number of each block's first row
        self._held = 0

    def __len__(self) -> int:
        return self._held

    @property
    def device(self) -> torch.device:
        """Where they are: that of the first row."""
        return self._blocks[0].device

    @property
    def width(self) -> int:
        """How many values a row has."""
        return self._blocks[0].shape[1:].numel()

    @property
    def nbytes(self) -> int:
        """The size of the rows."""
        return self._held * self.width * self.itemsize

    def append(self, rows: Tensor) -> None:
        """Add (n, ...) rows: they are copied."""
        while len(rows):
            room = sum(map(len, self._blocks)) - self._held
            if not room:
                self._blocks.append(self._block(rows))
                self._firsts.append(self._held)
                room = len(self._blocks[-1])
            part, rows = rows[:room], rows[room:]
            start = len(self._blocks[-1]) - room
            self._blocks[-1][start : start + len(part)] = part
            self._held += len(part)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """A copy (n, ...) of the rows of int64 (n,) indices or of a slice without a step."""
        if isinstance(chosen, slice):
            low, high, _ = chosen.indices(self._held)
            start = max(bisect_right(self._firsts, low) - 1, 0)
            blocks = range(start, max(bisect_left(self._firsts, high), start + 1))
            parts = ((self._firsts[i], self._blocks[i]) for i in blocks)
            return torch.cat([block[max(0, low - first) : max(0, high - first)] for first, block in parts])
        ascending, order = chosen.sort()
        firsts = torch.tensor(self._firsts[1:], dtype=torch.long, device=chosen.device)
        ends = [*torch.searchsorted(ascending, firsts).tolist(), len(chosen)]
        taken, begin = [self._blocks[0][:0]], 0
        for first, block, end in zip(self._firsts, self._blocks, ends, strict=True):
            if begin < end:
                taken.append(block[ascending[begin:end] - first])
            begin = end
        return torch.cat(taken)[order.argsort()]

    def parts(self, size: int, start: int = 0) -> Iterator[Tensor]:
        """Views of the rows from ``start`` on, in their order, at most ``size`` at once."""
        for first, part in self._parts():
            if start < first + len(part):
                yield from part[max(0, start - first) :].split(size)

    def replace(self, start: int, rows: Tensor) -> None:
        """Overwrite the rows from ``start`` on by as many (n, ...)."""
        for first, part in self._parts():
            low, high = max(start, first), min(start + len(rows), first + len(part))
            if low < high:
                part[low - first : high - first] = rows[low - start : high - start]

    def truncate(self, count: int) -> None:
        """Drop all rows but the first ``count``."""
        self._held = min(count, self._held)
        while self._blocks and sum(map(len, self._blocks[:-1])) >= max(1, self._held):
            self._blocks.pop()
            self._firsts.pop()

    def drained(self) -> Tensor:
        """All rows as one float32 (n, ...); each block is freed as soon as it is copied, and nothing is left."""
        whole = self._blocks[0].new_empty(self._held, *self._blocks[0].shape[1:], dtype=torch.float32)
        done = 0
        while self._blocks:
            part = self._blocks.pop(0)[: self._held - done]
            whole[done : done + len(part)] = part
            done += len(part)
        self._held, self._firsts = 0, []
        return whole

    def _parts(self) -> Iterator[tuple[int, Tensor]]:
        """The number of each block's first row, and the part of the block that is filled."""
        for first, block in zip(self._firsts, self._blocks, strict=True):
            yield first, block[: max(0, self._held - first)]

    def _block(self, rows: Tensor) -> Tensor:
        size = max(1, rows[0].numel() * self.itemsize)
        fewest, most = max(1, SMALLEST // size), max(1, LARGEST // size)
        return rows.new_empty(min(most, max(fewest, self._held)), *rows.shape[1:], dtype=self.dtype)
