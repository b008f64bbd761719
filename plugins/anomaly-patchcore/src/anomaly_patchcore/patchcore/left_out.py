"""The memory bank that a coreset would have kept without some of the images.

To take an image's own patches out of the bank is not enough: they also stand for patches of other images, which the coreset
would have kept instead, and without which normal images score too high. So the bank gets back as many patches of the others,
the farthest first, as it loses. Nearly all neighbours are those in the whole bank.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from anomaly_patchcore.patchcore.rows import Rows
from anomaly_patchcore.search import BankSearch, nearest

NEIGHBOURS = 3  # of each patch among the bank's entries that are held
MORE = 3  # neighbours that are looked for where one is lost; then four times as many


class SearchWithout:
    """A search in a bank that lacks some of its entries and has others instead.

    Args:
        whole: the exact search in the whole bank.
        lost: bool (M,): the entries that it lacks.
        regained: float (n, D): those that it has instead, in the bank's precision.
    """

    def __init__(self, whole: BankSearch, lost: Tensor, regained: Tensor) -> None:
        self._whole, self._lost, self._regained = whole, lost, regained

    @cached_property
    def bank(self) -> Tensor:
        """float (m, D): what is searched."""
        return torch.cat([self._whole.bank[~self._lost], self._regained])

    def of_images(self, patches: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """As :meth:`BankSearch.of_images`."""
        distances, indices = self(patches.flatten(0, 1), k)
        return distances.unflatten(0, patches.shape[:2]), indices.unflatten(0, patches.shape[:2])

    def __call__(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """As :func:`nearest` in :attr:`bank`."""
        kept = (~self._lost).cumsum(0)
        size = int(kept[-1])
        if size < k:
            return nearest(queries, self.bank, k)
        distances, places = self._among_kept(queries, k)
        indices = (kept - 1)[places]
        if len(self._regained):
            others, which = nearest(queries, self._regained, k)
            distances, order = torch.cat([distances, others], dim=1).sort(dim=1, stable=True)
            distances, indices = distances[:, :k], torch.cat([indices, which + size], dim=1).gather(1, order[:, :k])
        return distances, indices

    def _among_kept(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest entries that are not lost, by their places in the whole bank."""
        distances = torch.empty(len(queries), k, device=queries.device)
        places = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
        open_, more, most = torch.arange(len(queries), device=queries.device), 0, int(self._lost.sum())
        while len(open_):
            found, of_found = self._whole(queries[open_], k + more)
            gone, order = self._lost[of_found].sort(dim=1, stable=True)  # those that are kept first, the nearest of them first
            distances[open_], places[open_] = found.gather(1, order[:, :k]), of_found.gather(1, order[:, :k])
            open_ = open_[gone[:, k - 1]]
            more = min(max(MORE, 4 * more), most)
        return distances, places


class LeftOut:
    """A bank, and the patches that it was chosen from.

    Args:
        patches: float (N, D).
        searched: float32 (N, d): where the coreset was searched, the patches or their random projection.
        owners: int32 (N,): the number of the image that each patch comes from.
        picked: int64 (M,): which patches the bank has.
    """

    def __init__(self, patches: Rows | Tensor, searched: Tensor, owners: Tensor, picked: Tensor) -> None:
        self.patches, self._searched, self._owners, self._picked = patches, searched, owners, picked

    def without(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """What the bank without the images of these numbers lacks, bool (M,), and float32 (n, D), what it has instead."""
        lost, rows = self.rows_without(numbers)
        return lost, self.patches[rows]

    def rows_without(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`without`; int64 (n,): which of the patches the bank has instead."""
        lost = torch.isin(self._owners[self._picked], numbers)
        represented = self._represented  # a budget may have kept no patch of the last images
        orphans = torch.cat([self._picked[:0], *(represented[n] for n in numbers.tolist() if n < len(represented))])
        orphans = orphans[~torch.isin(self._owners[orphans], numbers)]
        first = orphans[:0]
        if lost.all():
            orphans = (~torch.isin(self._owners, numbers)).nonzero()[:, 0]
            first = orphans[:1]
        if not len(orphans):
            return lost, first
        points = self._searched[orphans]
        distances = (points - points[:1]).square().sum(dim=1) if len(first) else self._distances(orphans, points, lost)
        regained = []
        for _ in range(min(int(lost.sum()), len(orphans))):
            farthest = distances.argmax()
            regained.append(orphans[farthest])
            distances = torch.minimum(distances, (points - points[farthest]).square().sum(dim=1))
        return lost, torch.cat([first, torch.stack(regained)]) if regained else first

    def _distances(self, patches: Tensor, points: Tensor, lost: Tensor) -> Tensor:
        """float32 (n,): the squared distances of patches, where the coreset was searched, to the bank's nearest entry that is
        not lost. Nearly always it is among the first few of all."""
        squared, places = self._nearest
        gone = lost[places[patches]]
        distances = squared[patches].masked_fill(gone, torch.inf).amin(dim=1)
        if len(unknown := gone.all(dim=1).nonzero()[:, 0]):
            distances[unknown] = SearchWithout(self._search, lost, points[:0])(points[unknown])[0][:, 0]
        return distances

    @cached_property
    def _search(self) -> BankSearch:
        return BankSearch(self._searched[self._picked])

    @cached_property
    def _nearest(self) -> tuple[Tensor, Tensor]:
        """For each patch, the squared distances to its nearest entries of the bank, and which these are."""
        squared, places = self._search(self._searched, NEIGHBOURS)
        return squared, places.int()

    @cached_property
    def _represented(self) -> tuple[Tensor, ...]:
        """For each image, int64 (n,): the patches for which a patch of it stands in the bank, the nearest one."""
        representatives = self._owners[self._picked][self._nearest[1][:, 0]]
        counts = representatives.bincount(minlength=int(self._owners.max()) + 1)
        parts: tuple[Tensor, ...] = representatives.argsort(stable=True).split(counts.tolist())
        return parts
