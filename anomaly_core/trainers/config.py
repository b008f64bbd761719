"""The options of the core's trainers. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_core.options import TrainConfig


@dataclass(kw_only=True)
class MemoryTrainConfig(TrainConfig):
    """The memory trainer has no option of its own: one pass over the images, then the memory is built."""
