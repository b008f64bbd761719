"""GradientTrainer: epochs of gradient descent on Accelerate; the best epoch on held-out normal images is kept."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor, nn

from anomaly_core.base.modeler import BaseModeler, GradientModeler
from anomaly_core.base.trainer import BaseTrainer, Figures, History, RunContext
from anomaly_core.errors import ConfigError, PluginError, RunError
from anomaly_core.exhaustion import Portions, is_out_of_memory, release
from anomaly_core.processes import accelerator
from anomaly_core.trainers.batchnorm import synchronized_batch_norm
from anomaly_core.trainers.checkpoint import Checkpoints
from anomaly_core.trainers.config import GradientTrainConfig
from anomaly_core.trainers.means import Means
from anomaly_core.types import Batch

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.utils.data import DataLoader

LOSS = "val_loss"


class GradientTrainer(BaseTrainer):
    """Fits a :class:`~anomaly_core.GradientModeler`.

    Each epoch draws its random numbers from the seed and its own number, so that a resumed run repeats what an uninterrupted
    one draws. With several processes a batch is split over them, and the main one alone looks at the held-out images.

    Attributes:
        modelers: the kind of modeler that it fits.
    """

    config: GradientTrainConfig
    modelers: ClassVar[type] = GradientModeler

    def fit(
        self,
        modeler: BaseModeler,
        train: DataLoader[Batch],
        validation: DataLoader[Batch] | None,
        run: RunContext | None = None,
    ) -> History:
        """Fit, and leave the modeler in the state that is kept.

        Raises:
            RunError: a loss is NaN or infinite; a checkpoint cannot be read.
            ConfigError: the batch size does not divide over the processes, or a precision is not available.
        """
        modeler, run = self._checked(modeler), run or RunContext()
        processes = accelerator(self.device, self.config.precision, run.seed)
        if train.batch_size and train.batch_size % processes.num_processes:
            raise ConfigError(
                f"data.batch_size={train.batch_size} does not divide over {processes.num_processes} processes: "
                "each takes its share of every batch. Choose a multiple."
            )
        modeler.to(self.device)
        optimizer, schedule = modeler.configure_optimizer(self.config.epochs)
        step, optimizer, loader = processes.prepare(_Step(modeler), optimizer, train)
        self._portions = Portions(
            "training",
            "Each batch's gradient is summed from parts; batch statistics and random draws are those of the parts.",
        )
        checkpoints = Checkpoints(modeler, optimizer, schedule, processes, run)
        if run.resume:
            checkpoints.load()
        if validation is None and self.config.keep == "best":
            warnings.warn("no normal image is held out (data.holdout=0): the last epoch is kept, not the best.", stacklevel=2)
        bar = _Bar(self, len(loader), checkpoints.epoch)
        for epoch in range(checkpoints.epoch + 1, self.config.epochs + 1):
            if self._exhausted(checkpoints):
                break
            start = time.perf_counter()
            modeler.start_epoch(epoch, self.config.epochs)
            loader.set_epoch(epoch)
            means = self._train(modeler, step, loader, optimizer, processes, epoch, run.seed, bar)
            row = {"epoch": float(epoch), "lr": float(optimizer.param_groups[0]["lr"])}
            row |= {f"train_{name}": value for name, value in self.summarize(modeler, means.values()).items()}
            row |= self._validate(modeler, validation, processes, run.seed, epoch)
            seconds = time.perf_counter() - start
            row |= {"seconds": seconds, "images_per_second": means.count / seconds}
            if schedule is not None:
                schedule.step()
            if LOSS in row and row[LOSS] < checkpoints.best_loss - self.config.min_delta:
                checkpoints.improve(epoch, row[LOSS])
            checkpoints.save(epoch, row)
            run.log(row, epoch)
        bar.close()
        return self._finish(modeler, checkpoints)

    def summarize(self, modeler: GradientModeler, means: Figures) -> Figures:
        """What is logged of the means of an epoch's steps."""
        return means

    def _checked(self, modeler: BaseModeler) -> GradientModeler:
        if not isinstance(modeler, GradientModeler) or not isinstance(modeler, self.modelers):
            raise PluginError(
                f"{type(self).__name__} fits a {self.modelers.__name__}, and {type(modeler).__name__} is none. "
                "Leave train.name out, so that the method's own trainer is used."
            )
        return modeler

    def _train(
        self,
        modeler: GradientModeler,
        step: nn.Module,
        loader: DataLoader[Batch],
        optimizer: torch.optim.Optimizer,
        processes: Accelerator,
        epoch: int,
        seed: int,
        bar: _Bar,
    ) -> Means:
        modeler.train()
        set_seed(_derived(seed, epoch, processes.process_index))
        means = Means()
        for number, batch in enumerate(loader, 1):
            losses = self._descend(modeler, step, batch, optimizer, processes, epoch, f"batch {number} of {len(loader)}")
            value = float(losses["loss"])
            if self.config.gradient_clip is not None:
                processes.clip_grad_norm_([p for p in modeler.parameters() if p.requires_grad], self.config.gradient_clip)
            optimizer.step()
            means.add(losses, len(batch))
            bar.advance(epoch, value)
        means.reduce(processes)
        return means

    def _descend(
        self,
        modeler: GradientModeler,
        step: nn.Module,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        processes: Accelerator,
        epoch: int,
        number: str,
    ) -> dict[str, Tensor]:
        """The gradients of a batch's losses, and the losses; summed from parts where memory does not hold the batch at once.

        The sum is the whole batch's gradient, for losses are means over images. Batch statistics are those of the parts, and
        random draws come part by part.
        """
        while True:
            optimizer.zero_grad()
            parts = self._portions.of(len(batch))
            size = parts[0].stop
            try:
                return self._accumulate(modeler, step, batch, parts, processes, epoch, number)
            except Exception as error:
                # Of several processes the others are waiting for this one's gradients: they must not be summed out of step.
                if processes.num_processes > 1 or not is_out_of_memory(error):
                    raise
                self._portions.halve(size, error)
            release()

    def _accumulate(
        self,
        modeler: GradientModeler,
        step: nn.Module,
        batch: Batch,
        parts: list[slice],
        processes: Accelerator,
        epoch: int,
        number: str,
    ) -> dict[str, Tensor]:
        means: dict[str, Tensor] = {}
        for part in parts:
            share = (part.stop - part.start) / len(batch)
            with synchronized_batch_norm(processes.num_processes):
                losses = step((batch if len(parts) == 1 else batch[part]).to(self.device))
            value = float(losses["loss"].detach())
            if not math.isfinite(value):
                raise RunError(
                    f"the loss is {value} in epoch {epoch}, {number}: {self._cause(modeler, batch, losses)} {_kept(epoch)}"
                )
            processes.backward(losses["loss"] if len(parts) == 1 else losses["loss"] * share)
            for name, loss in losses.items():
                means[name] = loss.detach() if len(parts) == 1 else means.get(name, 0.0) + loss.detach() * share
        return means

    def _validate(
        self,
        modeler: GradientModeler,
        validation: DataLoader[Batch] | None,
        processes: Accelerator,
        seed: int,
        epoch: int,
    ) -> Figures:
        """Figures of the held-out normal images, ``val_...``; the same random numbers each time, so that epochs compare."""
        if validation is None:
            return {}
        figures: Figures = {}
        if processes.is_main_process:
            set_seed(_derived(seed, 0, 0))
            modeler.eval()
            means, portions = Means(), Portions("looking at held-out images")

            def validate(part: Batch) -> dict[str, Tensor]:
                return modeler.validation_step(part.to(self.device))

            with torch.no_grad(), processes.autocast():
                for batch in validation:
                    means.add_parts(portions, validate, batch)
            figures = {f"val_{name}": value for name, value in self.summarize(modeler, means.values()).items()}
        if processes.num_processes > 1:
            figures = broadcast_object_list([figures])[0]
        if not math.isfinite(figures.get(LOSS, 0.0)):
            raise RunError(
                f"the loss of the held-out images is {figures[LOSS]} after epoch {epoch}: the training diverged. Lower the "
                f"learning rate or set train.gradient_clip=1. {_kept(epoch)}"
            )
        return figures

    def _cause(self, modeler: GradientModeler, batch: Batch, losses: dict[str, Tensor]) -> str:
        """Why a loss may not be finite, and what to do about it."""
        broken = next((name for name, value in modeler.named_parameters() if not value.isfinite().all()), None)
        if not batch.images.isfinite().all():
            return "its images are not finite. Check the files of this data set, and what its plugin makes of them."
        if broken is not None:
            return (
                f"the weights ({broken}) are no longer finite after the step before: the training diverged. Lower the learning "
                "rate or set train.gradient_clip=1."
            )
        terms = [name for name, value in losses.items() if name != "loss" and not value.isfinite().all()]
        source = f" in {', '.join(terms)}" if terms else ""
        if self.config.precision != "32":
            return f"train.precision={self.config.precision} overflowed{source}. Set train.precision=32."
        return (
            f"weights and images are finite, so that the computation overflowed{source}. Lower the learning rate or set "
            "train.gradient_clip=1; images of a single colour may also be the cause."
        )

    def _exhausted(self, checkpoints: Checkpoints) -> bool:
        patience = self.config.patience
        return patience is not None and checkpoints.best_epoch > 0 and checkpoints.epoch - checkpoints.best_epoch >= patience

    def _finish(self, modeler: GradientModeler, checkpoints: Checkpoints) -> History:
        kept = checkpoints.rows[-1]
        if self.config.keep == "best" and checkpoints.best is not None:
            modeler.load_state_dict(checkpoints.best, strict=False)
            kept = checkpoints.rows[checkpoints.best_epoch - 1]
        modeler.eval()
        silent = ("epoch", "lr", "seconds", "images_per_second")
        figures = {name: value for name, value in kept.items() if name not in silent}
        figures |= {"epochs": checkpoints.rows[-1]["epoch"], "kept_epoch": kept["epoch"], **modeler.describe()}
        return History(checkpoints.rows, figures)


class _Step(nn.Module):
    """A training step as a module's forward, for that is what Accelerate and DDP wrap."""

    def __init__(self, modeler: GradientModeler) -> None:
        super().__init__()
        self.modeler = modeler

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.modeler.training_step(batch)


class _Bar:
    """One bar over all epochs, with epoch and loss."""

    def __init__(self, trainer: GradientTrainer, batches: int, done: int) -> None:
        self._words = "training"
        self._epochs = trainer.config.epochs
        total = batches * (self._epochs - done)
        self._ticks: Iterator[Any] = iter(trainer.progress(range(total), lambda: self._words, total))

    def advance(self, epoch: int, loss: float) -> None:
        self._words = f"epoch {epoch}/{self._epochs}  loss {loss:.4g}"
        next(self._ticks, None)

    def close(self) -> None:
        if isinstance(self._ticks, Iterator) and hasattr(self._ticks, "close"):
            self._ticks.close()


def _kept(epoch: int) -> str:
    """What is left of a training that stopped in an epoch."""
    if epoch == 1:
        return "No epoch was complete."
    return f"Epoch {epoch - 1} and the best one are kept in checkpoints/, from where --resume goes on."


def _derived(seed: int, epoch: int, rank: int) -> int:
    """Another seed for each epoch and process; epoch 0 is that of the held-out images."""
    return (seed * 1_000_003 + epoch * 7919 + rank) % 2**32
