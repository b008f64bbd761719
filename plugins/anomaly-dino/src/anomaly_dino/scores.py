"""One score of an image from the values of its map or its patches."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

ImageScore = Literal["mtop1p", "mtop5", "p99", "max", "mean"]
TOP = 5  # values of mtop5


def image_scores(values: Tensor, how: ImageScore = "mtop1p") -> Tensor:
    """float (B, ...) -> (B,).

    Args:
        values: of each image, any shape.
        how: ``mtop1p``: the mean of the greatest hundredth, of one value at least; ``mtop5``: of the greatest five; ``p99``:
            the 99th percentile, interpolated as numpy does; ``max``; ``mean``.
    """
    flat = values.flatten(1)
    count = int(flat.shape[1])
    if how == "mean":
        return flat.mean(dim=1)
    if how == "p99":  # torch.quantile is in no exported graph, and refuses large maps
        place = 0.99 * (count - 1)
        below = math.floor(place)
        top = flat.topk(count - below, dim=1).values  # descending: the last is the value at `below`
        return top[:, -1].lerp(top[:, -2], place - below) if count - below > 1 else top[:, -1]
    number = {"mtop1p": max(1, count // 100), "mtop5": min(TOP, count), "max": 1}[how]
    return flat.topk(number, dim=1).values.mean(dim=1)
