"""The patches that AnomalyDINO remembers while they are collected: in order, with their images, at most so many."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

SLACK = 4  # a bank of so many times its size is cut while images still come
SEARCHED = 64  # values in which the farthest row is searched: what is read for each choice then stays in a CPU's cache


class PatchBank:
    """Rows that grow in place, each with the number of its image.

    Args:
        size: the most rows that :meth:`rows` returns; None: all.
        keeps: which: ``newest`` or a ``coreset``.
        expected: how many rows will come; None: nobody knows.

    Attributes:
        images: how many images have come.
        cut: whether rows were dropped.
    """

    def __init__(
        self, size: int | None = None, keeps: Literal["coreset", "newest"] = "coreset", expected: int | None = None
    ) -> None:
        self.size, self.keeps, self._expected = size, keeps, expected
        self.images, self.cut, self._used = 0, False, 0
        self._rows, self._owners = torch.empty(0, 0), torch.empty(0, dtype=torch.int32)

    def __len__(self) -> int:
        return self._used

    def add(self, patches: Tensor, owner: int | None = None) -> None:
        """Take in the patches of one image, float32 (N, D)."""
        self._reserve(self._used + len(patches), patches)
        place = slice(self._used, self._used + len(patches))
        self._rows[place] = patches
        self._owners[place] = self.images if owner is None else owner
        self._used += len(patches)
        self.images += 1
        if self.size is not None and self._used > SLACK * self.size:
            self._cut(self.size)

    def rows(self) -> tuple[Tensor, Tensor]:
        """float32 (N, D) patches, and int32 (N,) the images that they are of."""
        if self.size is not None and self._used > self.size:
            self._cut(self.size)
        return self._rows[: self._used], self._owners[: self._used]

    def _reserve(self, wanted: int, like: Tensor) -> None:
        if wanted <= len(self._rows):
            return
        room = max(wanted, 2 * len(self._rows), self._expected or 0)
        if self.size is not None:
            room = max(wanted, min(room, SLACK * self.size + len(like)))
        rows, owners = like.new_empty(room, like.shape[1]), self._owners.new_empty(room, device=like.device)
        if self._used:
            rows[: self._used], owners[: self._used] = self._rows[: self._used], self._owners[: self._used]
        self._rows, self._owners = rows, owners

    def _cut(self, size: int) -> None:
        rows = self._rows[: self._used]
        kept = torch.arange(self._used - size, self._used) if self.keeps == "newest" else k_center(rows, size)
        kept = kept.to(rows.device)
        self._rows[:size], self._owners[:size] = rows[kept], self._owners[kept]
        self._used, self.cut = size, True


def k_center(rows: Tensor, count: int) -> Tensor:
    """The indices of ``count`` of the rows (N, D), ascending: each next one is that which is farthest from those before it.

    Greedy 2-approximation of the k-center problem (Gonzalez, 1985), by Euclidean distance, from the first row on; of longer
    rows in a Gaussian projection to 64 values, the same each time, as PatchCore's coreset.
    """
    if rows.shape[1] > SEARCHED:
        draw = torch.randn(rows.shape[1], SEARCHED, generator=torch.Generator().manual_seed(0))
        rows = rows @ draw.to(rows)
    squares, chosen = rows.square().sum(dim=1), torch.zeros(count, dtype=torch.int64)
    nearest = torch.full((len(rows),), torch.inf, device=rows.device)
    for i in range(1, count):
        last = int(chosen[i - 1])
        nearest = torch.minimum(nearest, squares + squares[last] - 2 * (rows @ rows[last]))
        nearest[last] = -torch.inf
        chosen[i] = nearest.argmax()
    return chosen.sort().values
