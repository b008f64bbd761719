"""The memory bank that a coreset would have kept without some of the images.

To take an image's own patches out of the bank is not enough: they also stand for patches of other images, which the coreset
would have kept instead, and without which normal images score too high. So the bank gets back as many patches of the others,
the farthest first, as it loses.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from anomaly_patchcore.patchcore.rows import Rows
from anomaly_patchcore.search import BankSearch, nearest

NEIGHBOURS = 3  # of each patch among the bank's entries that are held


class LeftOut:
    """A bank, and the patches that it was chosen from.

    Args:
        patches: float (N, D).
        searched: float32 (N, d): where the coreset was searched, the patches or their random projection.
        owners: int32 (N,): the number of the image that each patch comes from.
        picked: int64 (M,): which patches the bank has.
    """

    def __init__(self, patches: Rows | Tensor, searched: Tensor, owners: Tensor, picked: Tensor) -> None:
        self._patches, self._searched, self._owners, self._picked = patches, searched, owners, picked

    def bank(self, numbers: Tensor) -> Tensor:
        """float32 (M, D): the bank without the images of these numbers; empty if there are no others."""
        lost = torch.isin(self._owners[self._picked], numbers)
        kept = self._picked[~lost]
        represented = self._represented  # a budget may have kept no patch of the last images
        orphans = torch.cat([self._picked[:0], *(represented[n] for n in numbers.tolist() if n < len(represented))])
        orphans = orphans[~torch.isin(self._owners[orphans], numbers)]
        if not len(kept) and len(others := (~torch.isin(self._owners, numbers)).nonzero()[:, 0]):
            kept, orphans = others[:1], others
        if not len(kept) or not len(orphans):
            return self._patches[kept]
        points = self._searched[orphans]
        distances = self._distances(orphans, kept, numbers)
        regained = []
        for _ in range(min(int(lost.sum()), len(orphans))):
            farthest = distances.argmax()
            regained.append(orphans[farthest])
            distances = torch.minimum(distances, (points - points[farthest]).square().sum(dim=1))
        return self._patches[torch.cat([kept, torch.stack(regained)])] if regained else self._patches[kept]

    def _distances(self, patches: Tensor, kept: Tensor, numbers: Tensor) -> Tensor:
        """float32 (n,): the squared distances of patches to the bank's nearest entry that is not of these images, which the
        ``kept`` ones are. Nearly always it is among the first few of all."""
        squared, places = self._nearest
        lost = torch.isin(self._owners[self._picked][places[patches]], numbers)
        distances = squared[patches].masked_fill(lost, torch.inf).amin(dim=1)
        if len(unknown := lost.all(dim=1).nonzero()[:, 0]):
            distances[unknown] = nearest(self._searched[patches[unknown]], self._searched[kept])[0][:, 0]
        return distances

    @cached_property
    def _nearest(self) -> tuple[Tensor, Tensor]:
        """For each patch, the squared distances to its nearest entries of the bank, and which these are."""
        squared, places = BankSearch(self._searched[self._picked])(self._searched, NEIGHBOURS)
        return squared, places.int()

    @cached_property
    def _represented(self) -> tuple[Tensor, ...]:
        """For each image, int64 (n,): the patches for which a patch of it stands in the bank, the nearest one."""
        representatives = self._owners[self._picked][self._nearest[1][:, 0]]
        counts = representatives.bincount(minlength=int(self._owners.max()) + 1)
        parts: tuple[Tensor, ...] = representatives.argsort(stable=True).split(counts.tolist())
        return parts
