"""GradientTrainer: epochs of gradient descent on Accelerate; the best epoch on held-out normal images is kept."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
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
        fit = _Fit(modeler, step, optimizer, loader, validation, processes, run.seed)
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
            row = self._epoch(fit, epoch, bar)
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

    def _epoch(self, fit: _Fit, epoch: int, bar: _Bar) -> Figures:
        """Train and look at the held-out images once; the epoch's row."""
        start = time.perf_counter()
        fit.epoch = epoch
        fit.modeler.start_epoch(epoch, self.config.epochs)
        fit.loader.set_epoch(epoch)
        means = self._train(fit, bar)
        row = {"epoch": float(epoch), "lr": float(fit.optimizer.param_groups[0]["lr"])}
        row |= {f"train_{name}": value for name, value in self.summarize(fit.modeler, means.values()).items()}
        row |= self._validate(fit)
        seconds = time.perf_counter() - start
        return row | {"seconds": seconds, "images_per_second": means.count / seconds}

    def _train(self, fit: _Fit, bar: _Bar) -> Means:
        fit.modeler.train()
        fit.draw_anew(fit.epoch, fit.processes.process_index)
        means = Means()
        for number, batch in enumerate(fit.loader, 1):
            losses = self._descend(fit, batch, f"epoch {fit.epoch}, batch {number} of {len(fit.loader)}")
            value = float(losses["loss"])
            if self.config.gradient_clip is not None:
                trained = [p for p in fit.modeler.parameters() if p.requires_grad]
                fit.processes.clip_grad_norm_(trained, self.config.gradient_clip)
            fit.optimizer.step()
            means.add(losses, len(batch))
            bar.advance(fit.epoch, value)
        means.reduce(fit.processes)
        return means

    def _descend(self, fit: _Fit, batch: Batch, where: str) -> dict[str, Tensor]:
        """The gradients of a batch's losses, and the losses; summed from parts where memory does not hold the batch at once.

        The sum is the whole batch's gradient, for losses are means over images. Batch statistics are those of the parts, and
        random draws come part by part.
        """
        while True:
            fit.optimizer.zero_grad()
            parts = self._portions.of(len(batch))
            size = parts[0].stop
            try:
                return self._accumulate(fit, batch, parts, where)
            except Exception as error:
                # Of several processes the others are waiting for this one's gradients: they must not be summed out of step.
                if fit.processes.num_processes > 1 or not is_out_of_memory(error):
                    raise
                self._portions.halve(size, error)
            release()

    def _accumulate(self, fit: _Fit, batch: Batch, parts: list[slice], where: str) -> dict[str, Tensor]:
        means: dict[str, Tensor] = {}
        for part in parts:
            share = (part.stop - part.start) / len(batch)
            with synchronized_batch_norm(fit.processes.num_processes):
                losses = fit.step((batch if len(parts) == 1 else batch[part]).to(self.device))
            value = float(losses["loss"].detach())
            if not math.isfinite(value):
                raise RunError(f"the loss is {value} in {where}: {self._cause(fit.modeler, batch, losses)} {_kept(fit.epoch)}")
            fit.processes.backward(losses["loss"] if len(parts) == 1 else losses["loss"] * share)
            for name, loss in losses.items():
                means[name] = loss.detach() if len(parts) == 1 else means.get(name, 0.0) + loss.detach() * share
        return means

    def _validate(self, fit: _Fit) -> Figures:
        """Figures of the held-out normal images, ``val_...``; the same random numbers each time, so that epochs compare."""
        if fit.validation is None:
            return {}
        figures: Figures = {}
        if fit.processes.is_main_process:
            fit.draw_anew(0, 0)
            fit.modeler.eval()
            means, portions = Means(), Portions("looking at held-out images")

            def validate(part: Batch) -> dict[str, Tensor]:
                return fit.modeler.validation_step(part.to(self.device))

            with torch.no_grad(), fit.processes.autocast():
                for batch in fit.validation:
                    means.add_parts(portions, validate, batch)
            figures = {f"val_{name}": value for name, value in self.summarize(fit.modeler, means.values()).items()}
        if fit.processes.num_processes > 1:
            figures = broadcast_object_list([figures])[0]
        if not math.isfinite(figures.get(LOSS, 0.0)):
            raise RunError(
                f"the loss of the held-out images is {figures[LOSS]} after epoch {fit.epoch}: the training diverged. Lower the "
                f"learning rate or set train.gradient_clip=1. {_kept(fit.epoch)}"
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


@dataclass
class _Fit:
    """What takes part in a training, the same from its first epoch to its last, and the epoch that it is in."""

    modeler: GradientModeler
    step: nn.Module
    optimizer: torch.optim.Optimizer
    loader: Any  # Accelerate's, which has set_epoch
    validation: DataLoader[Batch] | None
    processes: Accelerator
    seed: int
    epoch: int = 0

    def draw_anew(self, epoch: int, rank: int) -> None:
        """Random numbers of their own for each epoch and process; epoch 0 is that of the held-out images."""
        set_seed((self.seed * 1_000_003 + epoch * 7919 + rank) % 2**32)


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
