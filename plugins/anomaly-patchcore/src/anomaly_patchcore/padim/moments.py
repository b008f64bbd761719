"""Mean and scatter of many sets of vectors at once, gathered batch by batch in memory that does not grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


class Moments:
    """Sum of x and of x x^T at each of L locations, around a shift, so that a mean far from zero costs no digits.

    Args:
        locations: L.
        dim: D, the length of a vector.
        device: where the sums live: float32, L * D * D values.

    Attributes:
        count: how many vectors each location has seen.
    """

    def __init__(self, locations: int, dim: int, device: torch.device | None = None) -> None:
        self.count = 0
        self._shift = torch.zeros(locations, dim, device=device)
        self._sums = torch.zeros(locations, dim, device=device)
        self._products = torch.zeros(locations, dim, dim, device=device)

    @classmethod
    def of(cls, mean: Tensor, scatter: Tensor, count: int) -> Moments:
        """Moments with this mean (L, D), scatter (L, D, D) and count, to add to; they take over the scatter's memory."""
        moments = cls(0, mean.shape[1], mean.device)
        moments.count, moments._shift, moments._sums, moments._products = count, mean, torch.zeros_like(mean), scatter
        return moments

    def add(self, vectors: Tensor) -> None:
        """Take in float32 (L, B, D): B vectors a location. The first ones' mean becomes the shift."""
        if not self.count:
            self._shift = vectors.mean(dim=1)
        shifted = vectors - self._shift[:, None]
        self._sums += shifted.sum(dim=1)
        self._products.baddbmm_(shifted.transpose(1, 2), shifted)
        self.count += vectors.shape[1]

    def without(self, vectors: Tensor) -> Moments:
        """The moments that have not seen these of the vectors, float32 (L, B, D)."""
        shifted = vectors - self._shift[:, None]
        products = torch.baddbmm(self._products, shifted.transpose(1, 2), shifted, alpha=-1)
        others = Moments.of(self._shift, products, self.count - vectors.shape[1])
        others._sums = self._sums - shifted.sum(dim=1)
        return others

    def mean(self) -> Tensor:
        """float32 (L, D)."""
        return self._shift + self._sums / max(1, self.count)

    def scatter(self) -> Tensor:
        """The sum of (x - mean)(x - mean)^T, float32 (L, D, D); the very memory that was gathered in, not a copy."""
        self._move(self.mean())
        return self._products

    def merge(self, accelerator: Accelerator) -> None:
        """Join the moments of all processes, each of which then holds all; every process must call it.

        Each process has its own shift: the common mean is computed first, and all change to it before products are added.
        """
        mine = torch.tensor([self.count], device=self._sums.device)
        total = int(accelerator.reduce(mine, reduction="sum"))
        self._move(accelerator.reduce(self.mean() * (self.count / max(1, total)), reduction="sum"))
        self._sums = accelerator.reduce(self._sums, reduction="sum")
        self._products = accelerator.reduce(self._products, reduction="sum")
        self.count = total

    def _move(self, shift: Tensor) -> None:
        """Express the same moments around another shift, (L, D)."""
        old = self._sums / max(1, self.count)  # the mean, seen from either shift
        new = old - (shift - self._shift)
        # P - n * old old^T is the scatter around the mean; + n * new new^T is around the new shift: one product of rank 2
        pair = torch.stack([old, new], dim=1)  # (L, 2, D)
        weights = pair.new_tensor([-self.count, self.count])[:, None]
        self._products.baddbmm_((pair * weights).transpose(1, 2), pair)
        self._shift, self._sums = shift, new * self.count
