"""More normal images for a finished memory bank, without those that it was built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_patchcore.coreset import k_center_continued
from anomaly_patchcore.patchcore.store import PatchStore
from anomaly_patchcore.search import nearest

if TYPE_CHECKING:
    from anomaly_patchcore.patchcore.model import PatchCoreModel


def chosen(model: PatchCoreModel, store: PatchStore) -> tuple[Tensor, float, Tensor]:
    """The new patches that join a bank, float32 (n, D), the coreset radius with them, and their rows and columns, int32 (n, 2).

    The greedy k-center of the bank goes on with the new patches: it takes as many as the store wants, such as the share that
    the bank has of the first ones, and more where one would lie farther from the bank than the coreset radius, so that the new
    images are known no worse than the first. The bank's own entries all stay, for they are no nearer to each other than that
    radius: no image's score rises, unless ``reweight`` weighs it, or ``neighbourhood`` had to look farther off before.

    Args:
        model: with its bank, and the projection that its coreset was searched in. If that is another than the fit's, which is
            not saved, the radius compares distances of two projections: it is an estimate then, and no bound.
        store: the new patches, and, where it dropped some, how far each may be from those for which it stands; it is used up.
    """
    wanted, reach = store.settle(), store.reach  # settling may drop patches
    radius, rows, searched = float(model.coreset_radius), store.rows, store.searched()
    squared = nearest(searched, model.project(model.memory_bank.float()))[0][:, 0]
    picked = k_center_continued(searched, squared, wanted)
    if len(picked):
        squared = torch.minimum(squared, nearest(searched, searched[picked])[0][:, 0])
        squared[picked] = 0
    beyond: list[Tensor] = []
    while len(picked) and float(squared.max()) > radius**2:
        beyond.append(squared.argmax())
        squared = torch.minimum(squared, (searched - searched[beyond[-1]]).square().sum(dim=1))
    distances = squared.sqrt() if reach is None else squared.sqrt() + reach
    indices = torch.cat([picked, *(index[None] for index in beyond)])
    patches = (rows if len(rows) else searched)[indices].float()
    return patches, max(radius, float(distances.max())), store.origins[indices, 1:]


def projection_of_fit(bank: Tensor, projection_dim: int | None, seed: int, thins: bool) -> Tensor | None:
    """The random projection (D, projection_dim) in which a fit with this seed searched the coreset that is its bank (M, D);
    None if it did so in all values. ``thins``: its store dropped patches, or would have."""
    dim = bank.shape[1]
    if not projection_dim or projection_dim >= dim:
        return None
    generator = torch.Generator().manual_seed(seed)
    if not thins:
        torch.randint(2, (1,), generator=generator)  # such a fit draws its first pick before the projection
    projection: Tensor = torch.randn(dim, projection_dim, generator=generator) / projection_dim**0.5
    return projection.to(bank.device)
