"""GradientTrainer: epochs of gradient descent on Accelerate; the best epoch on held-out normal images is kept."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from anomaly_core import (
    BaseModeler,
    BaseTrainer,
    Batch,
    ConfigError,
    DataError,
    Figures,
    GradientModeler,
    History,
    PluginError,
    Portions,
    Progress,
    RunContext,
    is_out_of_memory,
    quiet,
    release,
)
from anomaly_trainers.batchnorm import synchronized_batch_norm
from anomaly_trainers.checkpoint import Checkpoints
from anomaly_trainers.config import GradientTrainConfig
from anomaly_trainers.divergence import diverged, diverged_on_held_out
from anomaly_trainers.means import Means
from anomaly_trainers.processes import accelerator, require_precision
from anomaly_trainers.training import Bar, Batches, Training, TrainingStep, draw_anew

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

LOSS = "val_loss"


class GradientTrainer(BaseTrainer):
    """Fits a :class:`~anomaly_core.GradientModeler`.

    Each epoch is seeded from the run's seed and the epoch's number, so a resumed run draws the same random numbers as an
    uninterrupted one. With several processes, each batch is split over them, and only the main one validates.

    A trainer of your own extends this one, and its config :class:`GradientTrainConfig`. It may override

    - :meth:`losses`: what is computed from a batch, and which loss is minimised;
    - :meth:`update`: how the weights are updated from the gradients of a batch;
    - :meth:`validate`: the figures of the held-out images; ``val_loss`` selects the epoch that is kept.

    Everything else stays the same: order and random numbers, processes, mixed precision, batches in parts that fit into
    memory, checkpoints and ``--resume``, early stopping, and errors that name epoch and batch. Any state that it changes must
    belong to the modeler, the optimiser or the schedule, because checkpoints contain nothing else.
    """

    config: GradientTrainConfig

    def __init__(self, config: GradientTrainConfig, device: torch.device | str = "cpu", progress: Progress = quiet) -> None:
        super().__init__(config, device, progress)
        require_precision(config.precision, self.device)  # before a run looks at its images

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
            ConfigError: the batch size is not divisible by the number of processes, or a precision is not available.
            DataError: there is no training image.
        """
        run = run or RunContext()
        training = self._begin(modeler, train, validation, run)
        checkpoints = Checkpoints(training.modeler, training.optimizer, training.schedule, training.processes, run)
        if run.resume:
            checkpoints.load()
        if validation is None and self.config.keep == "best":
            warnings.warn(
                "no normal image is held out: the last epoch is kept, not the best. Add normal images, with data.holdout above "
                "0, or say so with train.keep=last.",
                stacklevel=2,
            )
        if validation is None and self.config.patience is not None:
            warnings.warn(
                f"train.patience={self.config.patience} stops nothing: no normal image is held out whose loss could tell. Add "
                "normal images, with data.holdout above 0, or leave it out.",
                stacklevel=2,
            )
        left = training.modeler.steps - checkpoints.epoch * len(training.loader)
        bar = Bar(self.progress, training.epochs, max(left, 0))
        for epoch in range(checkpoints.epoch + 1, training.epochs + 1):
            if self._is_patience_over(checkpoints):
                break
            row = self._epoch(training, epoch, bar)
            if training.schedule is not None and modeler.schedule_interval == "epoch":
                training.schedule.step()
            if LOSS in row and row[LOSS] < checkpoints.best_loss - self.config.min_delta:
                checkpoints.improve(epoch, row[LOSS])
            checkpoints.save(epoch, row)
            run.log(row, epoch)
        bar.close()
        return self._finish(training, checkpoints)

    def losses(self, training: Training, batch: Batch) -> dict[str, Tensor]:
        """Scalar means over a batch, by name: ``loss`` is minimised, the others are logged.

        Args:
            training: the objects of the training; ``training.step(batch)`` is the modeler's own ``training_step``, with
                gradients combined over the processes.
            batch: on the trainer's device; a part of a batch if the whole does not fit into memory.
        """
        losses: dict[str, Tensor] = training.step(batch)
        return losses

    def update(self, training: Training) -> None:
        """Update the weights from the gradients of a whole batch; by default, clip them and step the optimiser."""
        if self.config.gradient_clip is not None:
            trained = [parameter for parameter in training.modeler.parameters() if parameter.requires_grad]
            training.processes.clip_grad_norm_(trained, self.config.gradient_clip)
        training.optimizer.step()

    def validate(self, training: Training, held_out: DataLoader[Batch]) -> Figures:
        """Figures of the held-out normal images, named ``val_...``.

        Called after each epoch, only in the main process, in eval mode, without gradients, possibly under autocast, and with
        the same random numbers each time, so that epochs are comparable.
        """
        means, portions = Means(), Portions("looking at held-out images")

        def step(part: Batch) -> dict[str, Tensor]:
            return training.modeler.validation_step(part.to(self.device))

        for batch in held_out:
            means.add_parts(portions, step, batch)
        return {f"val_{name}": value for name, value in training.modeler.summarize(means.values()).items()}

    def _begin(
        self, modeler: BaseModeler, train: DataLoader[Batch], validation: DataLoader[Batch] | None, run: RunContext
    ) -> Training:
        if not isinstance(modeler, GradientModeler):
            raise PluginError(
                f"{type(self).__name__} fits a GradientModeler, and {type(modeler).__name__} is none. "
                "Leave train.name out, so that the method's own trainer is used."
            )
        if not len(train):
            raise DataError(
                f"there is no training image, and {type(modeler).__name__} is trained by gradient descent. Add normal images; "
                "a method that can do without any names the trainer memory."
            )
        processes = accelerator(self.device, self.config.precision, run.seed)
        if train.batch_size and train.batch_size % processes.num_processes:
            raise ConfigError(
                f"data.batch_size={train.batch_size} does not divide over {processes.num_processes} processes: "
                "each takes its share of every batch. Choose a multiple."
            )
        modeler.to(self.device)
        if not Checkpoints.exist(run):
            # every process sees all images, so that all get the same result
            draw_anew(run.seed, 0, 0)
            with torch.no_grad():
                modeler.eval().before_training(Batches(train, self.device))
        modeler.steps = self.config.epochs * len(train)
        if self.config.steps is not None:
            modeler.steps = min(modeler.steps, self.config.steps)
        epochs = math.ceil(modeler.steps / len(train))
        optimizer, schedule = modeler.configure_optimizer(epochs)
        step, optimizer, loader = processes.prepare(TrainingStep(modeler), optimizer, train)
        portions = Portions(
            "training",
            "Each batch's gradient is summed from parts; batch statistics and random draws are those of the parts.",
        )
        return Training(modeler, step, optimizer, schedule, loader, validation, processes, portions, run.seed, epochs)

    def _epoch(self, training: Training, epoch: int, bar: Bar) -> Figures:
        """Train for one epoch and validate once; returns the epoch's row."""
        start = time.perf_counter()
        training.epoch = epoch
        training.modeler.start_epoch(epoch, training.epochs)
        training.loader.set_epoch(epoch)
        means = self._train(training, bar)
        row = {"epoch": float(epoch), "lr": float(training.optimizer.param_groups[0]["lr"])}
        row |= {f"train_{name}": value for name, value in training.modeler.summarize(means.values()).items()}
        row |= self._validate(training)
        seconds = time.perf_counter() - start
        return row | {"seconds": seconds, "images_per_second": means.count / seconds}

    def _train(self, training: Training, bar: Bar) -> Means:
        training.modeler.train()
        draw_anew(training.seed, training.epoch, training.processes.process_index)
        means = Means()
        count = training.batches()
        for number, batch in enumerate(training.loader, 1):
            if number > count:
                break
            losses = self._descend(training, batch, f"epoch {training.epoch}, batch {number} of {count}")
            value = float(losses["loss"])
            self.update(training)
            if training.schedule is not None and training.modeler.schedule_interval == "step":
                training.schedule.step()
            means.add(losses, len(batch))
            bar.advance(training.epoch, value)
        means.reduce(training.processes)
        return means

    def _descend(self, training: Training, batch: Batch, where: str) -> dict[str, Tensor]:
        """Compute a batch's losses and gradients, accumulated over parts if the whole batch does not fit into memory.

        The sum is the whole batch's gradient, because losses are means over images. Batch statistics and random draws are
        those of each part.
        """
        while True:
            training.optimizer.zero_grad()
            parts = training.portions.of(len(batch))
            size = parts[0].stop
            try:
                return self._accumulate(training, batch, parts, where)
            except Exception as error:
                # Other processes are waiting for this one's gradients, so splitting here would put them out of step.
                if training.processes.num_processes > 1 or not is_out_of_memory(error):
                    raise
                training.portions.halve(size, error)
            release()

    def _accumulate(self, training: Training, batch: Batch, parts: list[slice], where: str) -> dict[str, Tensor]:
        means: dict[str, Tensor] = {}
        for part in parts:
            share = (part.stop - part.start) / len(batch)
            with synchronized_batch_norm(training.processes.num_processes):
                losses = self.losses(training, (batch if len(parts) == 1 else batch[part]).to(self.device))
            value = float(losses["loss"].detach())
            if not math.isfinite(value):
                raise diverged(training, batch, losses, where, self.config.precision)
            training.processes.backward(losses["loss"] if len(parts) == 1 else losses["loss"] * share)
            for name, loss in losses.items():
                means[name] = loss.detach() if len(parts) == 1 else means.get(name, 0.0) + loss.detach() * share
        return means

    def _validate(self, training: Training) -> Figures:
        if training.held_out is None:
            return {}
        figures: Figures = {}
        if training.processes.is_main_process:
            draw_anew(training.seed, 0, 0)
            training.modeler.eval()
            with torch.no_grad(), training.processes.autocast():
                figures = self.validate(training, training.held_out)
        if training.processes.num_processes > 1:
            figures = broadcast_object_list([figures])[0]
        if not math.isfinite(figures.get(LOSS, 0.0)):
            raise diverged_on_held_out(figures[LOSS], training.epoch)
        return figures

    def _is_patience_over(self, checkpoints: Checkpoints) -> bool:
        patience = self.config.patience
        return patience is not None and checkpoints.best_epoch > 0 and checkpoints.epoch - checkpoints.best_epoch >= patience

    def _finish(self, training: Training, checkpoints: Checkpoints) -> History:
        modeler, kept = training.modeler, checkpoints.rows[-1]
        if self.config.keep == "best" and checkpoints.best is not None:
            modeler.load_state(checkpoints.best, strict=False)
            kept = checkpoints.rows[checkpoints.best_epoch - 1]
        draw_anew(training.seed, 0, 0)
        with torch.no_grad():
            modeler.eval().after_training(Batches(training.held_out, self.device))
        silent = ("epoch", "lr", "seconds", "images_per_second")
        figures = {name: value for name, value in kept.items() if name not in silent}
        figures |= {"epochs": checkpoints.rows[-1]["epoch"], "kept_epoch": kept["epoch"], **modeler.describe()}
        return History(checkpoints.rows, figures)
