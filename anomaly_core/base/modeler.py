"""BaseModeler: a network with its loss, its optimiser and its scores; in two kinds, memory and gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from anomaly_core.config.sections import ModelConfig
from anomaly_core.errors import AnomalyError
from anomaly_core.imaging.geometry import InputSpec
from anomaly_core.types import Batch, Prediction

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class ModelContext:
    """What a modeler may know of its run, when it is fitted and when it is used again.

    Attributes:
        pretrained: whether pretrained weights are looked for; False for a finished run, whose weights follow by ``load_state``.
        categories: names of the categories that it is fitted on.
        prompt: what the images show, in words (``data.prompt``); empty: the names of the categories must do.
    """

    pretrained: bool = True
    categories: tuple[str, ...] = ()
    prompt: str = ""


class BaseModeler(nn.Module, ABC):
    """A method as the core sees it; without a context it is built without pretrained weights.

    Attributes:
        input_spec: the size, crop, mean and std that the method wants; images arrive in [0, 1], the modeler normalises them.
        fewest_images: how few normal images it can be fitted on; 0 for a method that needs none.
    """

    input_spec: InputSpec
    fewest_images: ClassVar[int] = 1

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__()
        self.config = config
        self.context = context or ModelContext(pretrained=False)

    @abstractmethod
    def predict_step(self, images: Tensor) -> Prediction:
        """Score float32 (B, 3, H, W) images in [0, 1]; must not depend on the other images of the batch."""

    def describe(self) -> dict[str, float]:
        """Figures of the fitted method, which stand beside the metrics: a bank's size, a coreset's radius."""
        return {}

    def fitting(self, repeated: bool) -> AbstractContextManager[None]:
        """Entered while a trainer fits: the place for what lasts as long, such as a cache of features; ``repeated``: the same
        images come again and again, in epochs."""
        return nullcontext()

    def trained_state(self) -> dict[str, Tensor]:
        """The part of the state that fitting changes, which checkpoints hold; a frozen backbone is no part of it."""
        return dict(self.state_dict())

    def prepare_export(self) -> None:
        """Called before a graph of :meth:`predict_step` is taken: the place to replace an external index by torch alone. A
        method that no graph can hold raises an AnomalyError that says why."""
        return

    def load_state(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Load a ``state_dict``, or with ``strict=False`` a :meth:`trained_state`; buffers that grow while fitting (a memory
        bank) take the saved shape."""
        for name, saved in state.items():
            owner_name, _, leaf = name.rpartition(".")
            owner = self.get_submodule(owner_name)
            current = owner._buffers.get(leaf)
            if current is not None and current.shape != saved.shape:
                owner._buffers[leaf] = torch.empty_like(saved, device=current.device)
        self.load_state_dict(state, strict=strict)


class MemoryModeler(BaseModeler):
    """A method that looks at every normal image once and then builds its memory."""

    @abstractmethod
    def collect(self, images: Tensor) -> None:
        """Take in float32 (B, 3, H, W) normal images in [0, 1]; called under ``torch.inference_mode`` in eval mode."""

    @abstractmethod
    def build(self) -> None:
        """Make the memory out of what was collected, then forget the rest."""

    def reopen(self) -> None:
        """Take the finished memory as collected, so that more images can be added and it can be built again; AnomalyError where
        the method cannot."""
        raise AnomalyError(f"{type(self).__name__} cannot extend a finished memory. Fit it anew on all normal images.")

    def merge(self, accelerator: Accelerator) -> None:
        """Join what several processes have collected, so that each holds all of it; called before :meth:`build`."""
        if accelerator.num_processes > 1:
            raise AnomalyError(f"{type(self).__name__} does not merge what several processes collect. Run it in one process.")

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """Figures of float32 (B, 3, H, W) held-out normal images against the memory: means by name, logged as metrics."""
        return {}


class GradientModeler(BaseModeler):
    """A method that is trained by gradient descent.

    Everything random is drawn from torch's global generator, which the trainer seeds anew for every epoch: so a resumed run
    repeats what an uninterrupted one would have drawn. Parameters that are not trained have ``requires_grad=False``.
    """

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar means over the batch by name; ``loss`` is minimised, the others are logged. Called in train mode, on the
        modeler's device, perhaps under autocast."""

    @abstractmethod
    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        """The optimiser and, or None, a learning-rate schedule that steps once an epoch, for a training of so many epochs."""

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """The training computation on held-out normal images, in eval mode, without gradients; ``loss`` chooses the epoch."""
        return self.training_step(batch)

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """The figures of an epoch that are logged, from the means over its batches: the place for an F1 of counts, say."""
        return means

    def before_training(self, batches: Iterable[Batch]) -> None:
        """The place for statistics of the training images, before the first epoch, in eval mode, without gradients. ``batches``
        are on the modeler's device, may be iterated several times, and are decoded only then. A resume does not call it:
        results belong in buffers or parameters, which checkpoints hold."""
        return

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch, counted from 1: the place for a warm-up."""
        return

    def after_training(self, held_out: Iterable[Batch]) -> None:
        """The place to normalise maps: called with the state that is kept, in eval mode, without gradients. ``held_out`` normal
        images are on the modeler's device, may be iterated several times, and may be none. Results belong in buffers or
        parameters, which the run saves."""
        return
