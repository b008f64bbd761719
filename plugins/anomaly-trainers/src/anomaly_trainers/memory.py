"""MemoryTrainer: one pass over the normal images, then the modeler builds its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from anomaly_core import (
    BaseModeler,
    BaseTrainer,
    Batch,
    Figures,
    History,
    MemoryModeler,
    PluginError,
    Portions,
    RunContext,
    collate,
)
from anomaly_trainers.means import Means
from anomaly_trainers.processes import accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator


class MemoryTrainer(BaseTrainer):
    """Fits a :class:`~anomaly_core.MemoryModeler`; held-out images only measure how well the memory covers unseen images.

    Several processes take consecutive shares of the images and merge their collected features in that order: the memory is
    the same as with one process.
    """

    shuffles = False  # a memory is built from all images at once

    def fit(
        self,
        modeler: BaseModeler,
        train: DataLoader[Batch],
        validation: DataLoader[Batch] | None,
        run: RunContext | None = None,
    ) -> History:
        """Fit; the history's only row has the figures of the memory.

        Raises:
            PluginError: the modeler is not a MemoryModeler.
        """
        if not isinstance(modeler, MemoryModeler):
            raise PluginError(
                f"the memory trainer fits a MemoryModeler, and {type(modeler).__name__} is none. "
                "Leave train.name out, so that the method's own trainer is used."
            )
        processes = accelerator(self.device)
        modeler.to(self.device).eval()
        modeler.expected = len(train.dataset)  # type: ignore[arg-type]  # has a length

        def collect(images: Tensor) -> None:
            modeler.collect(images.to(self.device))

        with torch.inference_mode():
            share, portions = _share(train, processes), Portions("collecting features")
            for batch in self.progress(share, "collecting features", len(share)):
                portions.run(collect, batch.images)
            modeler.merge(processes)
            modeler.build()
            figures = {**modeler.describe(), **self._held_out(modeler, validation)}
        if run:
            run.log(figures, 1)
        return History([{"epoch": 1.0, **figures}], figures)

    def _held_out(self, modeler: MemoryModeler, validation: DataLoader[Batch] | None) -> Figures:
        means, portions = Means(), Portions("looking at held-out images")

        def look(images: Tensor) -> dict[str, Tensor]:
            return modeler.held_out_step(images.to(self.device))

        for batch in self.progress(validation or (), "looking at held-out images", len(validation) if validation else 0):
            means.add_parts(portions, look, batch.images)
        return means.values()


def _share(train: DataLoader[Batch], processes: Accelerator) -> DataLoader[Batch]:
    """The consecutive images of this process; all images if it is the only one."""
    if processes.num_processes == 1:
        return train
    with processes.split_between_processes(list(range(len(train.dataset)))) as mine:  # type: ignore[arg-type]  # has a length
        return DataLoader(
            Subset(train.dataset, mine), batch_size=train.batch_size, num_workers=train.num_workers, collate_fn=collate
        )
