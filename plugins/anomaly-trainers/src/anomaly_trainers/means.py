"""Running means of the figures that steps return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_core import Items, Portions

if TYPE_CHECKING:
    from accelerate import Accelerator


class Means:
    """Means of named scalars over images, accumulated batch by batch in float64."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, Tensor], count: int) -> None:
        """Add the means of a batch of ``count`` images."""
        for name, value in values.items():
            part = value.detach().to("cpu", torch.float64) * count
            self._sums[name] = self._sums[name] + part if name in self._sums else part
        self.count += count

    def add_parts(self, portions: Portions, step: Callable[[Items], Mapping[str, Tensor]], items: Items) -> None:
        """Run a step on a batch, in parts as large as memory allows, and add its means."""
        for size, values in portions.run(lambda part: (len(part), step(part)), items):
            self.add(values, size)

    def reduce(self, processes: Accelerator) -> None:
        """Add up the sums of all processes, so that each holds the means over all images."""
        if processes.num_processes == 1:
            return
        mine = torch.stack([*self._sums.values(), torch.tensor(float(self.count), dtype=torch.float64)])
        *sums, count = processes.reduce(mine.float().to(processes.device)).cpu().double()
        self._sums = dict(zip(self._sums, sums, strict=True))
        self.count = int(count)

    def values(self) -> dict[str, float]:
        """The means by name; empty if nothing was added."""
        return {name: float(total) / self.count for name, total in self._sums.items()}
