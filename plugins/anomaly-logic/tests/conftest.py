"""Feature maps of images that all hold the same parts, two of each kind, at different places."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Draw = Callable[[torch.Generator, tuple[int, ...]], Tensor]


def drawn(generator: torch.Generator, kinds: tuple[int, ...]) -> Tensor:
    """(3, 12, 12) features of noise, in which each kind's own channel is high at one free cell for each entry of ``kinds``."""
    features = 0.25 * torch.randn(3, 12, 12, generator=generator)
    places = torch.randperm(144, generator=generator)[: len(kinds)]
    for kind, place in zip(kinds, places.tolist(), strict=True):
        features[kind, place // 12, place % 12] += 3
    return features


@pytest.fixture(scope="session")
def draw() -> Draw:
    return drawn


@pytest.fixture(scope="session")
def layers() -> list[Tensor]:
    """Two layers of 40 normal images, (40, 3, 12, 12) and (40, 3, 6, 6)."""
    generator = torch.Generator().manual_seed(0)
    fine = torch.stack([drawn(generator, (0, 0, 1, 1, 2, 2)) for _ in range(40)])
    return [fine, torch.nn.functional.avg_pool2d(fine, 2)]
