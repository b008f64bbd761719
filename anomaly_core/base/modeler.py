"""BaseModeler: a network with its loss, its optimiser and its scores; in two kinds, memory and gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

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


class GradientModeler(BaseModeler):
    """A method that is trained by gradient descent."""

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses of a batch by name; ``loss`` is the one that is minimised."""

    @abstractmethod
    def configure_optimizer(self) -> tuple[torch.optim.Optimizer, Any | None]:
        """The optimiser and, or None, a learning-rate schedule that steps once an epoch."""

    def validation_step(self, batch: Batch) -> dict[str, Tensor]:
        """The training computation on held-out normal images, without backpropagation; choose the best epoch by ``loss``."""
        return self.training_step(batch)
