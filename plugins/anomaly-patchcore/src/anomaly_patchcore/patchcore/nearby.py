"""Nearest neighbours among the bank's entries that come from nearby places: for parts that stand still in the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly_patchcore.bounds import squared_distances
from anomaly_patchcore.search import SPARE, is_exported

FAR = 1e30  # added to a squared distance: what is not nearby is found only where nothing else is
CELLS = 2**21  # distances that are held at once


def penalties(places: Tensor, height: int, width: int, radius: int, k: int) -> Tensor:
    """What is added to the squared distances of the patches of a grid to a bank's entries.

    A patch is compared with the entries at most ``radius`` rows and columns away. Where the bank has fewer than k of them, the
    radius grows until there are k.

    Args:
        places: int (M, 2): the row and column of each entry.
        height, width: of the grid.

    Returns:
        float32 (height * width, M): 0 or ``FAR``.
    """
    rows = torch.arange(height, device=places.device)[:, None] - places[:, 0]
    columns = torch.arange(width, device=places.device)[:, None] - places[:, 1]
    steps = torch.maximum(rows.abs()[:, None], columns.abs()[None]).flatten(0, 1)  # (h * w, M)
    reached = steps.float().topk(min(k, len(places)), dim=1, largest=False).values.amax(dim=1, keepdim=True).clamp(min=radius)
    return (steps > reached) * torch.tensor(FAR, device=places.device)


def nearest_nearby(patches: Tensor, bank: Tensor, added: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest entries of each patch, by squared distance and what is added to it.

    Args:
        patches: float32 (B, n, D).
        bank: float (M, D), of any precision.
        added: float32 (n, M) of :func:`penalties`, or (B, n, M).
        k: no more than M are returned.

    Returns:
        float32 **squared** distances, ascending, and int64 indices into the bank, both (B, n, k).
    """
    k, bank = min(k, len(bank)), bank.float()
    centre = bank.mean(dim=0)
    centred = bank - centre
    norms = centred.square().sum(dim=1)
    products = torch.addmm(norms, (patches - centre).flatten(0, 1), centred.T, alpha=-2).unflatten(0, patches.shape[:2])
    products = products + added
    candidates = products.topk(min(k + SPARE, len(bank)), dim=2, largest=False).indices  # (B, n, c)
    exact = squared_distances(patches.flatten(0, 1), bank, candidates.flatten(0, 1)).unflatten(0, patches.shape[:2])
    exact = exact + added.expand_as(products).gather(2, candidates)
    if is_exported():  # ONNX has no stable sort
        distances, order = exact.topk(k, dim=2, largest=False)
    else:
        distances, order = exact.sort(dim=2, stable=True)
    return distances[..., :k], candidates.gather(2, order[..., :k])


class NearbySearch:
    """A bank whose entries are searched near a patch's own place alone, exactly.

    Args:
        bank: float (M, D).
        places: int (M, 2): the row and column of each entry.
        radius: rows and columns between a patch and the entries that it is compared with, at most.
    """

    def __init__(self, bank: Tensor, places: Tensor, radius: int) -> None:
        self.bank, self._places, self._radius = bank, places, radius
        self._grid = (0, 0, 0)
        self._rows: list[tuple[Tensor, Tensor]] = []  # for each row of the grid: the entries it needs, what is added

    def of_grids(self, patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest entries of float32 (B, h, w, D) patches: as :func:`nearest_nearby`, (B, h * w, k)."""
        batch, height, width, _ = patches.shape
        k = min(k, len(self.bank))
        self._prepare(height, width, k)
        distances = patches.new_empty(batch, height, width, k)
        indices = torch.empty(batch, height, width, k, dtype=torch.long, device=patches.device)
        with torch.autocast(patches.device.type, enabled=False):
            for row, (entries, added) in enumerate(self._rows):
                bank, at_once = self.bank[entries], max(1, CELLS // added.numel())
                for first in range(0, batch, at_once):
                    part = slice(first, first + at_once)
                    distances[part, row], places = nearest_nearby(patches[part, row].float(), bank, added, k)
                    indices[part, row] = entries[places]
        return distances.flatten(1, 2), indices.flatten(1, 2)

    def _prepare(self, height: int, width: int, k: int) -> None:
        if self._grid == (height, width, k):
            return
        self._rows = []
        for added in penalties(self._places, height, width, self._radius, k).split(width):
            entries = (added == 0).any(dim=0).nonzero()[:, 0]
            self._rows.append((entries, added[:, entries].clone()))
        self._grid = (height, width, k)
