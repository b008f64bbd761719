"""MemoryTrainer: one pass over the normal images, then the modeler builds its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from anomaly_core.base.modeler import BaseModeler, MemoryModeler
from anomaly_core.base.trainer import BaseTrainer, History
from anomaly_core.errors import PluginError
from anomaly_core.types import Batch

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class MemoryTrainer(BaseTrainer):
    """Fits a :class:`~anomaly_core.MemoryModeler`; held-out images are left alone."""

    shuffles = False  # a memory is built from all images at once

    def fit(self, modeler: BaseModeler, train: DataLoader[Batch], validation: DataLoader[Batch] | None) -> History:
        if not isinstance(modeler, MemoryModeler):
            raise PluginError(
                f"the memory trainer fits a MemoryModeler, and {type(modeler).__name__} is none. "
                "Leave train.name out, so that the method's own trainer is used."
            )
        modeler.to(self.device).eval()
        with torch.inference_mode():
            for batch in self.progress(train, "collecting features", len(train)):
                modeler.collect(batch.images.to(self.device))
            modeler.build()
        return [{"epoch": 1.0, **modeler.describe()}]
