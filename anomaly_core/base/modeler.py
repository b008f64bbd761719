"""BaseModeler: a network with its loss, optimiser and scores. There are two kinds, memory and gradient."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

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
    """What a modeler knows about its run, when it is fitted and when it is loaded again.

    Attributes:
        pretrained: whether to load pretrained weights; False for a finished run: ``load_state`` then supplies its weights.
        categories: names of the categories to fit on.
        prompt: what the images show, in words (``data.prompt``); if empty, the category names are used.
    """

    pretrained: bool = True
    categories: tuple[str, ...] = ()
    prompt: str = ""


class BaseModeler(nn.Module, ABC):
    """A method as the core sees it. Without a context, it is built without pretrained weights.

    Attributes:
        input_spec: the size, crop, mean and std that the method needs. Images arrive in [0, 1]; the modeler normalises them.
        fewest_images: the smallest number of normal images to fit on; 0 for a method that needs none.
        image_room: the most bytes of decoded images that a run may keep beside what the method holds.
        transductive: whether it judges unlabelled images by one another. A run then collects its test images, without their
            labels and masks, and needs ``fewest_images`` of them; normal training images, if there are any, set the threshold
            alone. :meth:`predict_step` must recognise an image that was collected and not compare it with itself: a run scores
            those very images, and so does whoever predicts them later.
    """

    input_spec: InputSpec
    image_room: float = math.inf
    transductive: bool = False
    fewest_images: ClassVar[int] = 1

    def __init__(self, config: ModelConfig, context: ModelContext | None = None) -> None:
        super().__init__()
        self.config = config
        self.context = context or ModelContext(pretrained=False)

    @abstractmethod
    def predict_step(self, images: Tensor) -> Prediction:
        """Score float32 (B, 3, H, W) RGB images in [0, 1]; must not depend on the other images of the batch."""

    def describe(self) -> dict[str, float]:
        """Figures of the fitted method, reported with the metrics: for example a bank's size or a coreset's radius."""
        return {}

    def computing(self, device: torch.device) -> dict[str, str]:
        """How it computes on a device, for the run's log and manifest: for example the engine of a frozen network."""
        return {}

    def fitting(self, repeated: bool) -> AbstractContextManager[None]:
        """A context that is active during fitting, for resources such as a cache of features. ``repeated``: the same images
        are seen in every epoch."""
        return nullcontext()

    def warm_up(self, device: torch.device) -> None:
        """Called once while a run's images are screened: the place for what takes long and needs none of them, such as
        compiling a frozen network for a device."""
        return

    def prepare_fitting(self, batches: Iterable[Batch]) -> None:
        """Called before the trainer, for example to quantise a frozen network. ``batches`` are some of the images to fit on,
        evenly spread, the same in all processes and on the CPU; they may be iterated several times, and are then decoded."""
        return

    def trained_state(self) -> dict[str, Tensor]:
        """The part of the state that fitting changes, for checkpoints; a frozen backbone is not included."""
        return dict(self.state_dict())

    def prepare_export(self) -> None:
        """Called before :meth:`predict_step` is traced into a graph, for example to replace an external index by plain torch.
        A method that cannot be expressed as a graph raises an AnomalyError that says why."""
        return

    def load_state(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Load a ``state_dict``, or a :meth:`trained_state` with ``strict=False``. Buffers that are empty before fitting,
        such as a memory bank, take the saved shape."""
        for name, saved in state.items():
            owner_name, _, leaf = name.rpartition(".")
            owner = self.get_submodule(owner_name)
            current = owner._buffers.get(leaf)
            if current is not None and not current.numel() and _grows_to(current, saved):
                owner._buffers[leaf] = current.new_empty(saved.shape)
        self.load_state_dict(state, strict=strict)


def _grows_to(empty: Tensor, saved: Tensor) -> bool:
    """Whether a buffer may take a saved shape: sides of an empty buffer that are not 0 are fixed, unless it has one alone."""
    if empty.ndim == 1:
        return True
    return empty.ndim == saved.ndim and all(side in (0, length) for side, length in zip(empty.shape, saved.shape, strict=True))


class MemoryModeler(BaseModeler):
    """A method that looks at every normal image once and then builds its memory.

    Attributes:
        leaves_out: how many of the collected images or tiles :meth:`predict_without` can do without at once: 0, 1, or
            ``math.inf``. Where these are too few, cross-fitting fits several detectors.
        expected: how many images or tiles will be collected, by all processes; None if nobody has said so.
    """

    leaves_out: float = 0
    expected: int | None = None

    @abstractmethod
    def collect(self, images: Tensor) -> None:
        """Take in float32 (B, 3, H, W) RGB normal images in [0, 1]; called under ``torch.inference_mode`` in eval mode."""

    @abstractmethod
    def build(self) -> None:
        """Build the memory from the collected features, then discard the rest."""

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        """As :meth:`predict_step`, each image by a memory that lacks some of the images that it was built from.

        Args:
            images: float32 (B, 3, H, W) RGB in [0, 1], of the images that are lacking, or tiles of them.
            numbers: for each image, int64 (n,): which of the collected images or tiles are lacking, counted from 0 in their
                order. It is the same tensor for images that lack the same.
        """
        raise AnomalyError(f"{type(self).__name__} cannot leave images out of its memory. Set its leaves_out to 0.")

    def reopen(self) -> None:
        """Treat the finished memory as collected features, so that images can be added and it can be built again.
        AnomalyError if the method cannot do this."""
        raise AnomalyError(f"{type(self).__name__} cannot extend a finished memory. Fit it anew on all normal images.")

    def merge(self, accelerator: Accelerator) -> None:
        """Gather what all processes have collected into each of them; called before :meth:`build`."""
        if accelerator.num_processes > 1:
            raise AnomalyError(f"{type(self).__name__} does not merge what several processes collect. Run it in one process.")

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """Compare float32 (B, 3, H, W) RGB held-out normal images with the memory: means by name, logged as metrics."""
        return {}


class GradientModeler(BaseModeler):
    """A method that is trained by gradient descent.

    All random numbers come from torch's global generator, which the trainer reseeds for every epoch. A resumed run therefore
    draws the same numbers as an uninterrupted one. Parameters that are not trained have ``requires_grad=False``.

    Attributes:
        schedule_interval: when the learning-rate schedule steps: after each epoch, or after each training step.
        steps: how many training steps there will be in all; the trainer sets it before :meth:`configure_optimizer`.
        uses_anomalous: whether it learns from known defects. Its training batches then hold as many images labelled anomalous
            (``batch.labels == 1``) as normal ones, if a run has any, with masks where ``batch.has_mask``; held-out images are
            normal. Another method gets normal images alone.
    """

    schedule_interval: ClassVar[Literal["epoch", "step"]] = "epoch"
    steps: int = 0
    uses_anomalous: ClassVar[bool] = False

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar means over the batch, by name. ``loss`` is minimised; the others are logged. Called in train mode on the
        modeler's device, possibly under autocast."""

    @abstractmethod
    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        """The optimiser for ``epochs`` epochs, and a learning-rate schedule that steps once per ``schedule_interval``, or
        None."""

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """As :meth:`training_step`, on held-out normal images, in eval mode, without gradients; ``loss`` selects the epoch."""
        return self.training_step(batch)

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """The figures to log for an epoch, computed from the means over its batches: for example an F1 from counts."""
        return means

    def before_training(self, batches: Iterable[Batch]) -> None:
        """Compute statistics of the training images: called before the first epoch, in eval mode, without gradients.
        ``batches`` are on the modeler's device, may be iterated several times, and are decoded on iteration. A resumed run
        does not call it: store results in buffers or parameters, which checkpoints include."""
        return

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch, counted from 1; for example for a warm-up."""
        return

    def after_training(self, held_out: Iterable[Batch]) -> None:
        """Called with the state that is kept, in eval mode, without gradients; for example to normalise maps. ``held_out``
        normal images are on the modeler's device, may be iterated several times, and may be empty. Store results in buffers
        or parameters, which the run saves."""
        return
