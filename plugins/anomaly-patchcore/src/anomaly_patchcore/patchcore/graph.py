"""PatchCore's scores as a graph computes them that is taken for an export: any number of images, no index, no stable sort."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_patchcore.patchcore.nearby import nearest_nearby
from anomaly_patchcore.search import least_distances, nearest


class Scored(NamedTuple):
    """Scores of all patches, (B, h * w); of each image's worst patch, itself (B, D), its squared distances and neighbours, both
    (B, k)."""

    scores: Tensor
    worst: Tensor
    distances: Tensor
    indices: Tensor


def scored_in_graph(patches: Tensor, bank: Tensor, k: int, added: Tensor | None) -> Scored:
    """The scores of float32 (B, h, w, D) patches: the mean squared distance to the k nearest entries of a bank (M, D).

    ``added``: float32 (h * w, M), added to the squared distances of a grid's patches; None: nothing.
    """
    batch, height, width, _ = patches.shape
    flat, grids = patches.flatten(0, 2), patches.flatten(1, 2)
    if k > 1:
        if added is None:
            distances, indices = nearest(flat, bank, k)
        else:
            distances, indices = (found.flatten(0, 1) for found in nearest_nearby(grids, bank, added, k))
        scores = distances.mean(dim=1).view(batch, -1)
        rows = torch.arange(batch, device=flat.device) * height * width + scores.argmax(dim=1)
        return Scored(scores, flat[rows], distances[rows], indices[rows])
    # a graph needs the place of one neighbour alone: the worst patch's
    scores = least_distances(flat, bank, added).view(batch, -1)
    # taken by a product: OpenVINO computes in float32, for longer, what stands between the last product and the outputs
    place = F.one_hot(scores.argmax(dim=1), height * width).to(flat.dtype)
    worst = (place[:, None] @ grids)[:, 0]
    if added is None:
        return Scored(scores, worst, *nearest(worst, bank))
    distances, indices = nearest_nearby(worst[:, None], bank, (place @ added)[:, None], 1)
    return Scored(scores, worst, distances[:, 0], indices[:, 0])
