"""BaseTrainer: how a modeler is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from anomaly_core.base.modeler import BaseModeler
from anomaly_core.config.sections import TrainConfig
from anomaly_core.types import Batch

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

Figures = dict[str, float]


@dataclass
class History:
    """The course of a fit.

    Attributes:
        rows: the figures of each epoch, as in ``history.csv``.
        figures: the figures of the state that was kept, reported with the run's metrics.
    """

    rows: list[Figures] = field(default_factory=list)
    figures: Figures = field(default_factory=dict)


@dataclass
class RunContext:
    """What a trainer knows about its run.

    Attributes:
        seed: governs everything that is random.
        folder: where checkpoints are stored; None keeps none.
        write: writes a file in that folder atomically, by name.
        resume: continue from the last checkpoint, if there is one.
        log: called with the figures and the number of each epoch.
    """

    seed: int = 0
    folder: Path | None = None
    write: Callable[[str, bytes], Any] | None = None
    resume: bool = False
    log: Callable[[Figures, int], None] = lambda figures, step: None


class Progress(Protocol):
    """Shows the progress of a step. The command line's version draws a bar on a terminal and nothing in a pipe."""

    def __call__(
        self, items: Iterable[Any], description: str | Callable[[], str], total: int | None = None
    ) -> Iterable[Any]: ...


def quiet(items: Iterable[Any], description: str | Callable[[], str], total: int | None = None) -> Iterable[Any]:
    """A Progress that shows nothing."""
    return items


class BaseTrainer(ABC):
    """A fitting strategy, on a device.

    Attributes:
        shuffles: whether the training images are repeated in every epoch, each time in a new order.
    """

    shuffles: ClassVar[bool] = True

    def __init__(self, config: TrainConfig, device: torch.device | str = "cpu", progress: Progress = quiet) -> None:
        self.config = config
        self.device = torch.device(device)
        self.progress = progress

    @abstractmethod
    def fit(
        self,
        modeler: BaseModeler,
        train: DataLoader[Batch],
        validation: DataLoader[Batch] | None,
        run: RunContext | None = None,
    ) -> History:
        """Fit on normal images; ``validation`` holds held-out normal images."""
