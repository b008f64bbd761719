"""The memory bank that a coreset would have kept without some of the images.

To take an image's own patches out of the bank is not enough: they also stand for patches of other images, which the coreset
would have kept instead, and without which normal images score too high. So the bank gets back as many patches of the others,
the farthest first, as it loses. Nearly all neighbours are those in the whole bank: one search of all patches finds them, for
what the bank gets back and for the scores alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from anomaly_patchcore.patchcore.rows import Rows
from anomaly_patchcore.search import BankSearch, nearest

ROUNDING = 2**-8  # above that of a squared distance by products, even where a GPU rounds factors; a share of both norms
PART = 2**16  # patches that are searched at once
MORE = 3  # further neighbours that are looked for where one is lost; then four times as many


class SearchWithout:
    """A search in a bank that lacks some of its entries and has others instead.

    Args:
        whole: the exact search in the whole bank.
        lost: bool (M,): the entries that it lacks.
        regained: float (n, D): those that it has instead, in the bank's precision.
        known: for each of the queries that will come, the squared distances to its nearest entries in the whole bank, infinite
            from where they are not known, and which these are, both (N, c); None: they are searched.
    """

    def __init__(self, whole: BankSearch, lost: Tensor, regained: Tensor, known: tuple[Tensor, Tensor] | None = None) -> None:
        self._whole, self._lost, self._regained, self._known = whole, lost, regained, known

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
            near = self._near_regained(queries, distances[:, k - 1]).nonzero()[:, 0]
            others, which = nearest(queries[near], self._regained, k)
            joined, order = torch.cat([distances[near], others], dim=1).sort(dim=1, stable=True)
            indices[near] = torch.cat([indices[near], which + size], dim=1).gather(1, order[:, :k])
            distances[near] = joined[:, :k]
        return distances, indices

    def _near_regained(self, queries: Tensor, reach: Tensor) -> Tensor:
        """bool (N,): whether a regained entry may be nearer to a query than the squared distance (N,); not, if it is far by the
        products beyond all rounding."""
        with torch.autocast(queries.device.type, enabled=False):
            queries, regained = queries.float(), self._regained.float()
            norms, of_regained = queries.square().sum(dim=1), regained.square().sum(dim=1)
            least = torch.addmm(of_regained, queries, regained.T, alpha=-2).amin(dim=1) + norms
        return ~(least > reach + ROUNDING * (norms + of_regained.amax()))

    def _among_kept(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest entries that are not lost, by their places in the whole bank."""
        distances = torch.empty(len(queries), k, device=queries.device)
        places = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
        open_, more, most = torch.arange(len(queries), device=queries.device), 0, int(self._lost.sum())
        known = self._known
        while len(open_):
            found, of_found = self._whole(queries[open_], k + more) if known is None else known
            gone = self._lost[of_found] if known is None else self._lost[of_found] | found.isinf()
            known = None
            gone, order = gone.sort(dim=1, stable=True)  # those that are kept first, the nearest of them first
            distances[open_], places[open_] = found.gather(1, order[:, :k]), of_found.gather(1, order[:, :k])
            open_ = open_[gone[:, k - 1]]
            more = min(max(MORE, 4 * more), most)
        return distances, places


class LeftOut:
    """A bank, and the patches that it was chosen from.

    Args:
        patches: float (N, D).
        searched: where their neighbours are looked for: the patches, or what the coreset was searched in, float (N, d).
        owners: int32 (N,): the number of the image that each patch comes from.
        picked: int64 (M,): which patches the bank has.
        search: the exact search in the bank, where neighbours are those of the patches; None: one is made in what is searched.
        neighbors: how many neighbours a score takes.
    """

    def __init__(
        self,
        patches: Rows | Tensor,
        searched: Rows | Tensor,
        owners: Tensor,
        picked: Tensor,
        search: BankSearch | None = None,
        neighbors: int = 1,
    ) -> None:
        self.patches, self._searched, self._owners, self._picked = patches, searched, owners, picked
        self._owners_of_bank = owners[picked]
        self._search, self._scores = search or BankSearch(searched[picked].float()), search is not None
        self._neighbors = neighbors

    def without(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """What the bank without the images of these numbers lacks, bool (M,), and float (n, D), what it has instead."""
        lost, rows = self.rows_without(numbers)
        return lost, self.patches[rows]

    def rows_without(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`without`; int64 (n,): which of the patches the bank has instead."""
        lost = torch.isin(self._owners_of_bank, numbers)
        represented = self._represented  # a budget may have kept no patch of the last images
        orphans = torch.cat([self._picked[:0], *(represented[n] for n in numbers.tolist() if n < len(represented))])
        orphans = orphans[~torch.isin(self._owners[orphans], numbers)]
        first = orphans[:0]
        if lost.all():
            orphans = (~torch.isin(self._owners, numbers)).nonzero()[:, 0]
            first = orphans[:1]
        if not len(orphans):
            return lost, first
        points = self._searched[orphans].float()
        norms = points.square().sum(dim=1)

        def to(place: Tensor) -> Tensor:
            return (norms + norms[place] - 2 * (points @ points[place])).clamp_(min=0)

        distances = to(orphans.new_zeros(())) if len(first) else self._distances(orphans, points, lost)
        regained = []
        for _ in range(min(int(lost.sum()), len(orphans))):
            farthest = distances.argmax()
            regained.append(farthest)
            distances = torch.minimum(distances, to(farthest))
        return lost, torch.cat([first, orphans[torch.stack(regained)]]) if regained else first

    def neighbours(self, patches: Sequence[slice | None]) -> tuple[Tensor, Tensor] | None:
        """For these patches, the squared distances to their nearest entries of the whole bank, float32 (n, c), and which these
        are; None where some of them are not known, or neighbours were not looked for among the patches."""
        known = [part for part in patches if part is not None]
        if not self._scores or len(known) < len(patches):
            return None
        squared, places = self._nearest
        return torch.cat([squared[part] for part in known]), torch.cat([places[part] for part in known]).long()

    def _distances(self, patches: Tensor, points: Tensor, lost: Tensor) -> Tensor:
        """float32 (n,): the squared distances of patches to the bank's nearest entry that is not lost."""
        squared, places = self._nearest
        distances = squared[patches].masked_fill(lost[places[patches]], torch.inf).amin(dim=1)
        if len(unknown := distances.isinf().nonzero()[:, 0]):
            distances[unknown] = SearchWithout(self._search, lost, points[:0])(points[unknown])[0][:, 0]
        return distances

    @cached_property
    def _nearest(self) -> tuple[Tensor, Tensor]:
        """For each patch, the squared distances to its nearest entries of the bank, float32 (N, c), and which these are, int32.
        Only so many as remain enough without any one image; distances to others are infinite."""
        few = self._neighbors + 1
        squared = torch.full((len(self._searched), few + MORE), torch.inf, device=self._owners.device)
        places = torch.zeros(squared.shape, dtype=torch.int32, device=squared.device)
        start = 0
        for part in self._searched.parts(PART) if isinstance(self._searched, Rows) else self._searched.split(PART):
            rows = torch.arange(start, start + len(part), device=squared.device)
            of_part, count = part.float(), few
            while len(rows):
                found, of_found = self._search(of_part, count)
                squared[rows, : found.shape[1]], places[rows, : found.shape[1]] = found, of_found.int()
                if count > few:
                    break
                owners = self._owners_of_bank[of_found].sort(dim=1).values
                short = (owners[:, 1:] == owners[:, :-1]).any(dim=1)
                rows, of_part, count = rows[short], of_part[short], few + MORE
            start += len(part)
        return squared, places

    @cached_property
    def _represented(self) -> tuple[Tensor, ...]:
        """For each image, int64 (n,): the patches for which a patch of it stands in the bank, the nearest one."""
        representatives = self._owners_of_bank[self._nearest[1][:, 0]]
        counts = representatives.bincount(minlength=int(self._owners.max()) + 1)
        parts: tuple[Tensor, ...] = representatives.argsort(stable=True).split(counts.tolist())
        return parts
