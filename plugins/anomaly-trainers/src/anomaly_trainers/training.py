"""Training: the objects of a gradient training, from its first epoch to its last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from anomaly_core import Batch, GradientModeler, Portions, Progress

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import DataLoader


@dataclass
class Training:
    """The objects of a training.

    Attributes:
        modeler: the modeler to fit.
        step: the modeler's ``training_step`` as a module, prepared by Accelerate.
        optimizer, schedule: the modeler's own; the optimiser is prepared too.
        loader: Accelerate's loader of the training images; it splits each batch over the processes.
        held_out: the held-out normal images; None if there are none.
        processes: Accelerate's view of devices, processes and precision.
        portions: the parts of a batch that fit into memory.
        seed: the run's seed.
        epochs: how many there are at the most.
        epoch: the current epoch, counted from 1; 0 before the first.
    """

    modeler: GradientModeler
    step: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    loader: Any  # Accelerate's, which has set_epoch
    held_out: DataLoader[Batch] | None
    processes: Accelerator
    portions: Portions
    seed: int
    epochs: int
    epoch: int = 0

    def batches(self) -> int:
        """How many batches the current epoch has; the last epoch may end early."""
        return min(len(self.loader), self.modeler.steps - (self.epoch - 1) * len(self.loader))


class TrainingStep(nn.Module):
    """A training step as a module's forward, because Accelerate and DDP wrap modules."""

    def __init__(self, modeler: GradientModeler) -> None:
        super().__init__()
        self.modeler = modeler

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.modeler.training_step(batch)


class Batches:
    """The batches of a loader on a device, for any number of passes; empty if there is no loader."""

    def __init__(self, loader: DataLoader[Batch] | None, device: torch.device) -> None:
        self._loader = loader
        self._device = device

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader or ():
            yield batch.to(self._device)


class Bar:
    """One bar over all epochs, with epoch and loss.

    Args:
        progress: draws the bar.
        epochs: the number of epochs in all.
        total: the number of batches that are left in all of them.
    """

    def __init__(self, progress: Progress, epochs: int, total: int) -> None:
        self._words = "training"
        self._epochs = epochs
        self._ticks: Iterator[Any] = iter(progress(range(total), lambda: self._words, total))

    def advance(self, epoch: int, loss: float) -> None:
        """Advance by one batch."""
        self._words = f"epoch {epoch}/{self._epochs}  loss {loss:.4g}"
        next(self._ticks, None)

    def close(self) -> None:
        """Finish the bar, even if not all epochs were needed."""
        if isinstance(self._ticks, Iterator) and hasattr(self._ticks, "close"):
            self._ticks.close()


def draw_anew(seed: int, epoch: int, process: int) -> None:
    """Seed the random numbers for each epoch and process separately; epoch 0 is for passes without training."""
    set_seed((seed * 1_000_003 + epoch * 7919 + process) % 2**32)
