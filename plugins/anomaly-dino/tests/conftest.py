"""Small images, a small extractor, and threads that stand for processes, for the methods of this distribution."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor

SMALL = {
    "backbone": "resnet18.tv_in1k",
    "layers": ("layer1", "layer2"),
    "combine": "concat",
    "image_size": (64, 96),
}


@pytest.fixture(scope="session")
def images() -> Tensor:
    """float32 (6, 3, 64, 96)."""
    return torch.rand(6, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def small() -> dict[str, object]:
    """Options of a small convolutional backbone."""
    return dict(SMALL)


@pytest.fixture
def together() -> Callable[[int], Together]:
    """So many processes at once: ``together(3).run(work)``."""
    return Together


class Process:
    """What accelerate gives one of several processes."""

    def __init__(self, shared: Together, index: int) -> None:
        self._shared, self.process_index, self.num_processes = shared, index, shared.count

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, of equal shapes, one after the other."""
        return torch.cat(self._shared.exchange(self.process_index, tensor))

    def reduce(self, tensor: Tensor, reduction: str = "mean") -> Tensor:
        """The sum over all processes."""
        assert reduction == "sum"
        return torch.stack(self._shared.exchange(self.process_index, tensor)).sum(dim=0)

    def pad_across_processes(self, tensor: Tensor) -> Tensor:
        """With as many rows as the process that has most."""
        most = max(len(part) for part in self._shared.exchange(self.process_index, tensor))
        return torch.cat([tensor, tensor.new_zeros(most - len(tensor), *tensor.shape[1:])])


class Together:
    """So many processes at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = Barrier(count, timeout=20)
        self._parts: list[Tensor] = [torch.empty(0)] * count

    def exchange(self, index: int, tensor: Tensor) -> list[Tensor]:
        self._parts[index] = tensor.clone()
        self._barrier.wait()
        parts = list(self._parts)
        self._barrier.wait()
        return parts

    def run(self, work: Callable[[Process], Any]) -> list[Any]:
        """``work`` in each of them."""
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(work, [Process(self, i) for i in range(self.count)]))
