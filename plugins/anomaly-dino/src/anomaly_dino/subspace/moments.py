"""Count, mean and scatter of patches, gathered image by image in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

ROOM = 256 * 2**20  # bytes of the moments of single images, by which any of them can be left out


@dataclass
class Moments:
    """Sums over patches x around a shift s, float64: of x - s, and of (x - s)(x - s)^T.

    Attributes:
        shift, sums: (D,).
        products: (D, D).
    """

    shift: Tensor
    sums: Tensor
    products: Tensor
    count: int = 0

    @classmethod
    def around(cls, shift: Tensor) -> Moments:
        """Those of no patches yet."""
        dim = len(shift)
        return cls(shift, torch.zeros_like(shift), shift.new_zeros(dim, dim))

    def add(self, patches: Tensor) -> None:
        """Take in (N, D)."""
        shifted = patches.to(self.shift) - self.shift
        self.sums += shifted.sum(dim=0)
        self.products.addmm_(shifted.T, shifted)
        self.count += len(shifted)

    def join(self, other: Moments, sign: int = 1) -> None:
        """Add the moments of other patches around the same shift; take them away with ``sign`` -1."""
        self.sums += sign * other.sums
        self.products += sign * other.products
        self.count += sign * other.count

    def copy(self) -> Moments:
        """The same, independent of this."""
        return Moments(self.shift, self.sums.clone(), self.products.clone(), self.count)

    def moved(self, shift: Tensor) -> Moments:
        """The same patches around another shift."""
        step = self.shift - shift
        cross = torch.outer(self.sums, step)
        products = self.products + cross + cross.T + self.count * torch.outer(step, step)
        return Moments(shift, self.sums + self.count * step, products, self.count)

    def mean(self) -> Tensor:
        """float64 (D,)."""
        return self.shift + self.sums / max(1, self.count)

    def covariance(self) -> Tensor:
        """float64 (D, D), with the divisor n - 1."""
        middle = self.sums / max(1, self.count)
        return (self.products - self.count * torch.outer(middle, middle)) / max(1, self.count - 1)


@dataclass
class GatheredMoments:
    """The moments of all images, and of each where there is room.

    Args:
        expected: how many images or tiles will come; None: nobody knows, and none is kept by itself.
    """

    expected: int | None = None
    total: Moments | None = None
    images: int = 0
    _sums: Tensor = field(default_factory=lambda: torch.empty(0))
    _products: Tensor = field(default_factory=lambda: torch.empty(0))
    _counts: list[int] = field(default_factory=list)

    def add(self, patches: Tensor) -> None:
        """Take in the patches of one image, (N, D); its turned copies' are among them. The first image's mean is the shift."""
        exact = torch.device("cpu") if patches.device.type == "mps" else patches.device  # MPS has no float64
        patches = patches.to(exact, torch.float64)
        if self.total is None:
            self.total = Moments.around(patches.mean(dim=0))
            self._reserve(patches.shape[1], exact)
        one = Moments.around(self.total.shift)
        one.add(patches)
        self.total.join(one)
        if self.images < len(self._sums):
            self._sums[self.images], self._products[self.images] = one.sums, one.products
            self._counts.append(one.count)
        self.images += 1

    def _reserve(self, dim: int, device: torch.device) -> None:
        # all at once: pieces kept between large temporaries let a process grow by far more than they hold
        fits = self.expected is not None and self.expected * (dim + 1) * dim * 8 <= ROOM
        kept = (self.expected or 0) if fits else 0
        self._sums = torch.empty(kept, dim, dtype=torch.float64, device=device)
        self._products = torch.empty(kept, dim, dim, dtype=torch.float64, device=device)

    def _each(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Sums, products and count of each image that is kept."""
        kept = len(self._counts)  # there is room for those of other processes as well
        return zip(self._sums[:kept], self._products[:kept], self._counts, strict=True)

    @property
    def separable(self) -> bool:
        """Whether :meth:`without` can leave any image out, and others remain."""
        return 1 < self.images == len(self._counts)

    def without(self, numbers: Iterable[int]) -> Moments:
        """The moments of all images but these, counted from 0 in the order in which they came; exact."""
        assert self.total is not None
        rest = self.total.copy()
        for i in numbers:
            rest.join(Moments(rest.shift, self._sums[i], self._products[i], self._counts[i]), sign=-1)
        return rest

    def merge(self, accelerator: Accelerator, dim: int, device: torch.device) -> None:
        """Join those of all processes, each of which then holds all; every process must call it, also one without images."""
        if self.total is None:
            self.total = Moments.around(torch.zeros(dim, dtype=torch.float64, device=device))
        mine = self.total
        count, images = (int(n) for n in accelerator.reduce(torch.tensor([mine.count, self.images], device=device), "sum"))
        shift = accelerator.reduce(mine.shift * mine.count + mine.sums, "sum") / max(1, count)  # the mean of all
        kept = [Moments(mine.shift, *part).moved(shift) for part in self._each()]
        mine = mine.moved(shift)
        self.total = Moments(shift, accelerator.reduce(mine.sums, "sum"), accelerator.reduce(mine.products, "sum"), count)
        rows = torch.empty(len(kept), 1 + dim + dim * dim, dtype=torch.float64, device=device)
        for i, one in enumerate(kept):
            rows[i] = torch.cat([one.sums.new_tensor([one.count]), one.sums, one.products.flatten()])
        lengths = accelerator.gather(torch.tensor([len(rows)], device=device)).tolist()
        self.images = images
        if sum(lengths) != images or images * (dim + 1) * dim * 8 > ROOM:
            self._counts, self._sums, self._products = [], self._sums[:0], self._products[:0]
            return
        parts = accelerator.gather(accelerator.pad_across_processes(rows)).split(max(lengths))
        rows = torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
        self._counts = rows[:, 0].int().tolist()
        self._sums, self._products = rows[:, 1 : dim + 1].clone(), rows[:, dim + 1 :].view(-1, dim, dim).clone()
