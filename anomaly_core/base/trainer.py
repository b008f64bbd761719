"""BaseTrainer: how a modeler is fitted, and the one loop that scores images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from anomaly_core.base.modeler import BaseModeler
from anomaly_core.errors import ConfigError
from anomaly_core.options import TrainConfig
from anomaly_core.types import Batch, Prediction

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

History = list[dict[str, float]]


class Progress(Protocol):
    """Shows how far a step has come; ``runner`` gives one that draws a bar on a terminal and nothing in a pipe."""

    def __call__(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]: ...


def quiet(items: Iterable[Any], description: str, total: int | None = None) -> Iterable[Any]:
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
    def fit(self, modeler: BaseModeler, train: DataLoader[Batch], validation: DataLoader[Batch] | None) -> History:
        """Fit on normal images; ``validation`` holds held-out normal images. Returns a row of figures an epoch."""

    def predict(
        self, modeler: BaseModeler, batches: Iterable[Batch], description: str, total: int | None = None
    ) -> Iterator[tuple[Batch, Prediction]]:
        """Each batch with its prediction, float32 on the CPU; in eval mode and without gradients."""
        modeler.to(self.device).eval()
        with torch.inference_mode():
            for batch in self.progress(batches, description, total):
                yield batch, modeler.predict_step(batch.images.to(self.device)).cpu()


def choose_device(name: str) -> torch.device:
    """The device that a name means; ``auto`` is what Accelerate finds. ConfigError where it is not there."""
    if name == "auto":
        from accelerate import PartialState

        return torch.device(PartialState().device)
    device = torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device.type]
    if not available or (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise ConfigError(f"base.device={name} is not available here. Use base.device=auto or base.device=cpu.")
    return device
