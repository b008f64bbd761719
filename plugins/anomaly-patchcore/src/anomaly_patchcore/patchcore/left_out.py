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
from anomaly_patchcore.search import nearest


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
        distances = nearest(points, self._searched[kept])[0][:, 0]
        regained = []
        for _ in range(min(int(lost.sum()), len(orphans))):
            farthest = distances.argmax()
            regained.append(orphans[farthest])
            distances = torch.minimum(distances, (points - points[farthest]).square().sum(dim=1))
        return self._patches[torch.cat([kept, torch.stack(regained)])] if regained else self._patches[kept]

    @cached_property
    def _represented(self) -> tuple[Tensor, ...]:
        """For each image, int64 (n,): the patches for which a patch of it stands in the bank, the nearest one."""
        _, places = nearest(self._searched, self._searched[self._picked])
        representatives = self._owners[self._picked][places[:, 0]]
        counts = representatives.bincount(minlength=int(self._owners.max()) + 1)
        parts: tuple[Tensor, ...] = representatives.argsort(stable=True).split(counts.tolist())
        return parts
