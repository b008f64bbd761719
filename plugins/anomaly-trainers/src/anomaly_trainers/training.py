"""Training: what takes part in a gradient training, from its first epoch to its last."""

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
    """What takes part in a training.

    Attributes:
        modeler: what is fitted.
        step: the modeler's ``training_step`` as a module that Accelerate prepared.
        optimizer, schedule: the modeler's; the optimiser is prepared too.
        loader: Accelerate's, of the training images; it splits each batch over the processes.
        held_out: the held-out normal images; None where there are none.
        processes: Accelerate's view of devices, processes and precision.
        portions: the parts of a batch that fit into memory.
        seed: of the run.
        epoch: the one that is under way, counted from 1; 0 before the first.
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
    epoch: int = 0


class TrainingStep(nn.Module):
    """A training step as a module's forward, for that is what Accelerate and DDP wrap."""

    def __init__(self, modeler: GradientModeler) -> None:
        super().__init__()
        self.modeler = modeler

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.modeler.training_step(batch)


class Batches:
    """The batches of a loader on a device, for as many passes as are wanted; none where there is no loader."""

    def __init__(self, loader: DataLoader[Batch] | None, device: torch.device) -> None:
        self._loader = loader
        self._device = device

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader or ():
            yield batch.to(self._device)


class Bar:
    """One bar over all epochs, with epoch and loss.

    Args:
        progress: draws it.
        epochs: of the whole training, of which ``done`` are over.
        batches: of an epoch.
    """

    def __init__(self, progress: Progress, epochs: int, batches: int, done: int) -> None:
        self._words = "training"
        self._epochs = epochs
        total = batches * (epochs - done)
        self._ticks: Iterator[Any] = iter(progress(range(total), lambda: self._words, total))

    def advance(self, epoch: int, loss: float) -> None:
        """A batch is over."""
        self._words = f"epoch {epoch}/{self._epochs}  loss {loss:.4g}"
        next(self._ticks, None)

    def close(self) -> None:
        """The training is over, whether all epochs were needed or not."""
        if isinstance(self._ticks, Iterator) and hasattr(self._ticks, "close"):
            self._ticks.close()


def draw_anew(seed: int, epoch: int, process: int) -> None:
    """Random numbers of their own for each epoch and process; epoch 0 is for passes that are no training."""
    set_seed((seed * 1_000_003 + epoch * 7919 + process) % 2**32)
