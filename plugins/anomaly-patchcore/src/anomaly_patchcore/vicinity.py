"""Where points lie: a rough division into cells, by which a pick's likely neighbours are found without a look at all points."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

COUNT, SAMPLE, STEPS = 64, 2**14, 4  # cells; points that their centres are the means of; steps of k-means
ROWS = 2**15  # points at once


class Vicinity:
    """Points in cells, and the picks that each cell has not been compared with yet.

    Args:
        points: float (N, D), of any precision, finite.
    """

    def __init__(self, points: Tensor) -> None:
        sample = points[:: max(1, len(points) // SAMPLE)].float()
        self._centres = sample[:: max(1, len(sample) // COUNT)][:COUNT]
        for _ in range(STEPS):
            cell = self.cells(sample)[:, 0]
            sums = torch.zeros_like(self._centres).index_add_(0, cell, sample)
            counts = cell.bincount(minlength=len(sums))[:, None]
            self._centres = torch.where(counts > 0, sums / counts.clamp(min=1), self._centres)
        cell = torch.cat([self.cells(part)[:, 0].to(torch.uint8) for part in points.split(ROWS)]).cpu()
        order = torch.from_numpy(np.argsort(cell.numpy(), kind="stable").astype(np.int32)).to(points.device)
        self._members = order.split(cell.bincount(minlength=len(self._centres)).tolist())
        self._waiting: list[list[int]] = [[] for _ in self._members]

    def cells(self, points: Tensor, count: int = 1) -> Tensor:
        """int64 (n, count): the cells whose centres are the nearest to the points."""
        nearness = torch.addmm(self._centres.square().sum(dim=1) / -2, points.float(), self._centres.T)
        return (
            nearness.argmax(dim=1, keepdim=True) if count == 1 else nearness.topk(min(count, nearness.shape[1]), dim=1).indices
        )

    def add(self, number: int, points: Tensor, count: int, most: int) -> list[tuple[Tensor, list[int]]]:
        """Take in picks, float (n, D), numbered from ``number`` on, each into its ``count`` nearest cells. Returns the indices
        of the points in those cells where ``most`` picks or more wait, and these."""
        ready = []
        for offset, cells in enumerate(self.cells(points, count).tolist()):
            for cell in cells:
                self._waiting[cell].append(number + offset)
                if len(self._waiting[cell]) == most:
                    ready.append(cell)
        found = [(self._members[cell], self._waiting[cell]) for cell in ready]
        for cell in ready:
            self._waiting[cell] = []
        return found
