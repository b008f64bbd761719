"""The patches of several processes in one store, where each of them then has all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_patchcore.patchcore.store import PatchStore

if TYPE_CHECKING:
    from accelerate import Accelerator


def exchanged(mine: PatchStore, empty: PatchStore, images: int, accelerator: Accelerator) -> tuple[PatchStore, int]:
    """The ``empty`` store, filled with the patches of all processes' stores, and the number of this one's first image.

    Args:
        mine: of this process, not empty; within a budget it is thinned.
        images: how many this process has collected, numbered from 0.
    """
    if mine.budget is not None:  # so that all of them together fit into each one's budget
        itemsize = mine.rows.itemsize
        # all that is gathered is held in float32 twice, beside the store that it goes into
        mine.shrink(mine.capacity * itemsize // (itemsize + 8) // accelerator.num_processes)
    patches, reach, origins = mine.patches(), mine.reach, mine.origins.float()
    first = accelerator.gather(torch.tensor([images], device=patches.device))[: accelerator.process_index].sum()
    origins[:, 0] += first
    # origins and reach travel as four more columns; a float32 holds the numbers of 16 million images exactly
    extents = torch.zeros_like(origins[:, :1]) if reach is None else reach[:, None]
    patches = torch.cat([patches, origins, extents], dim=1)
    counts = accelerator.gather(torch.tensor([len(patches)], device=patches.device))
    totals = accelerator.gather(torch.tensor([mine.total], device=patches.device))
    parts = accelerator.gather(accelerator.pad_across_processes(patches)).split(int(counts.max()))
    for part, count, total in zip(parts, counts.tolist(), totals.tolist(), strict=True):
        rows = part[:count]
        empty.add(rows[:, :-4], None if reach is None else rows[:, -1], total, rows[:, -4:-1].int())
    return empty, int(first)


def origins(numbers: Tensor, height: int, width: int) -> Tensor:
    """int32 (B * height * width, 3): image, row and column of each patch of the images with these numbers, int32 (B,)."""
    rows = torch.arange(height, dtype=torch.int32, device=numbers.device)
    columns = torch.arange(width, dtype=torch.int32, device=numbers.device)
    return torch.cartesian_prod(numbers, rows, columns)
