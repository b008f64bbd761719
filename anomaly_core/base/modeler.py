"""BaseModeler: a network with its loss, its optimiser and its scores; in two kinds, memory and gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from anomaly_core.errors import AnomalyError
from anomaly_core.inputs import InputSpec
from anomaly_core.options import ModelConfig
from anomaly_core.types import Batch, Prediction

if TYPE_CHECKING:
    from accelerate import Accelerator

    from anomaly_core.backbones import Backbones


class BaseModeler(nn.Module, ABC):
    """A method as the core sees it.

    Args:
        config: the method's own dataclass.
        backbones: where pretrained weights come from; None when a finished run is loaded, whose weights follow by
            ``load_state``: the network is then built without looking for any.

    Attributes:
        input_spec: the size, crop, mean and std that the method wants;
            images arrive in [0, 1] and are normalised by the modeler.
    """

    input_spec: InputSpec

    def __init__(self, config: ModelConfig, backbones: Backbones | None = None) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def predict_step(self, images: Tensor) -> Prediction:
        """Score float32 (B, 3, H, W) images in [0, 1]; must not depend on the other images of the batch."""

    def describe(self) -> dict[str, float]:
        """What the fitted method can tell about itself, logged as metrics: a bank's size, a coreset's radius."""
        return {}

    def prepare_export(self) -> None:
        """Called before a graph of :meth:`predict_step` is taken.

        The place to put what stands in torch alone where something else computes (an external index), so that what is compared
        with the graph computes the same. A method that no graph can hold raises an AnomalyError that says why.
        """
        return

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a saved state; buffers that grow while fitting (a memory bank) take the saved shape."""
        for name, saved in state.items():
            owner_name, _, leaf = name.rpartition(".")
            owner = self.get_submodule(owner_name)
            current = owner._buffers.get(leaf)
            if current is not None and current.shape != saved.shape:
                owner._buffers[leaf] = torch.empty_like(saved, device=current.device)
        self.load_state_dict(state)


class MemoryModeler(BaseModeler):
    """A method that looks at every normal image once and then builds its memory."""

    @abstractmethod
    def collect(self, images: Tensor) -> None:
        """Take in float32 (B, 3, H, W) normal images in [0, 1]; called under ``torch.inference_mode`` in eval mode."""

    @abstractmethod
    def build(self) -> None:
        """Make the memory out of what was collected, then forget the rest."""

    def merge(self, accelerator: Accelerator) -> None:
        """Join what several processes have collected, so that each holds all of it; called before :meth:`build`."""
        if accelerator.num_processes > 1:
            raise AnomalyError(f"{type(self).__name__} does not merge what several processes collect. Run it in one process.")

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """What the built memory says of float32 (B, 3, H, W) held-out normal images: means by name, logged as metrics."""
        return {}


class GradientModeler(BaseModeler):
    """A method that is trained by gradient descent.

    Everything random is drawn from torch's global generator, which the trainer seeds anew for every epoch: so a resumed run
    repeats what an uninterrupted one would have drawn. Parameters that are not trained have ``requires_grad=False``.
    """

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar means over the batch by name; ``loss`` is the one that is minimised, the others are logged.

        Called in train mode, on the modeler's device, perhaps under autocast.
        """

    @abstractmethod
    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        """The optimiser and, or None, a learning-rate schedule that steps once an epoch, for a training of so many epochs."""

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """The training computation on held-out normal images, in eval mode, without gradients; ``loss`` chooses the epoch."""
        return self.training_step(batch)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch, counted from 1: the place for a warm-up."""
        return


class FlowModeler(GradientModeler):
    """A normalising flow: ``loss`` is the negative log-likelihood in nats an image, less its Gaussian constant.

    That is the mean over the batch of ``0.5 * sum(z**2) - log|det|``, summed over all latent values of an image.
    """

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """How many latent values an image has, all levels together."""


class ClassificationModeler(GradientModeler):
    """A method that learns from synthetic anomalies, with their masks as supervision."""

    @abstractmethod
    def synthesize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (B, 3, H, W) normal images -> (images, some with anomalies; float32 (B, 1, H, W) masks of 0 and 1)."""

    @abstractmethod
    def supervised_step(self, images: Tensor, augmented: Tensor, masks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Scalar losses by name, and the probability (B, 1, H, W) of each pixel to be anomalous."""

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """The losses, and the shares of pixels that the classification trainer makes an F1 of."""
        augmented, masks = self.synthesize(batch.images)
        losses, probability = self.supervised_step(batch.images, augmented, masks)
        found, truth = probability.detach() > 0.5, masks > 0.5
        pairs = {"true_positives": found & truth, "false_positives": found & ~truth, "false_negatives": ~found & truth}
        return {**losses, **{name: hits.float().mean() for name, hits in pairs.items()}}
