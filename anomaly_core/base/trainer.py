"""BaseTrainer: how a modeler is fitted, and the one loop that scores images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

from anomaly_core.base.modeler import BaseModeler
from anomaly_core.exhaustion import Portions
from anomaly_core.options import TrainConfig
from anomaly_core.processes import choose_device
from anomaly_core.types import Batch, Prediction

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

Figures = dict[str, float]


@dataclass
class History:
    """What a fit tells of itself.

    Attributes:
        rows: a row of figures an epoch: ``history.csv``.
        figures: those of the state that was kept, which stand among the run's metrics.
    """

    rows: list[Figures] = field(default_factory=list)
    figures: Figures = field(default_factory=dict)


def _unheard(figures: Figures, step: int) -> None:
    """Nobody listens."""


@dataclass
class RunContext:
    """What a trainer may know of its run.

    Attributes:
        seed: governs everything that is random.
        folder: where checkpoints live; None keeps none.
        write: writes a file of that folder whole or not at all, by name.
        resume: go on from the last checkpoint where there is one.
        log: told the figures of each epoch.
    """

    seed: int = 0
    folder: Path | None = None
    write: Callable[[str, bytes], Any] | None = None
    resume: bool = False
    log: Callable[[Figures, int], None] = _unheard


class Progress(Protocol):
    """Shows how far a step has come; ``runner`` gives one that draws a bar on a terminal and nothing in a pipe."""

    def __call__(
        self, items: Iterable[Any], description: str | Callable[[], str], total: int | None = None
    ) -> Iterable[Any]: ...


def quiet(items: Iterable[Any], description: str | Callable[[], str], total: int | None = None) -> Iterable[Any]:
    """A Progress that shows nothing."""
    return items


class BaseTrainer(ABC):
    """A strategy of fitting.

    Args:
        config: the trainer's own dataclass.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: shows how far it has come.

    Attributes:
        shuffles: whether the training images come in another order every epoch.
    """

    shuffles: ClassVar[bool] = True

    def __init__(self, config: TrainConfig, device: str = "auto", progress: Progress = quiet) -> None:
        self.config = config
        self.device = choose_device(device)
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

    def predict(
        self, modeler: BaseModeler, batches: Iterable[Batch], description: str, total: int | None = None
    ) -> Iterator[tuple[Batch, Prediction]]:
        """Each batch with its prediction, float32 on the CPU; in eval mode and without gradients."""
        return score(modeler, self.progress(batches, description, total), self.device)


def score(modeler: BaseModeler, batches: Iterable[Batch], device: torch.device) -> Iterator[tuple[Batch, Prediction]]:
    """Each batch with its prediction, float32 on the CPU; in eval mode and without gradients.

    Where memory does not hold a batch, it is scored in parts, and a warning says so.
    """
    modeler.to(device).eval()
    portions = Portions("scoring")
    for batch in batches:
        yield batch, score_images(modeler, batch.images, device, portions)


def score_images(modeler: BaseModeler, images: Tensor, device: torch.device, portions: Portions) -> Prediction:
    """The prediction of (B, 3, H, W) images by a modeler that is on the device and in eval mode; in parts that fit."""

    def predict(part: Tensor) -> Prediction:
        with torch.inference_mode():
            return modeler.predict_step(part.to(device)).cpu()

    return Prediction.joined(portions.run(predict, images))
