"""Two ways of fitting: one pass into a memory, and gradient descent without anything to resume from."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from anomaly_core import (
    BaseModeler,
    BaseTrainer,
    Batch,
    ConfigError,
    GradientModeler,
    History,
    MemoryModeler,
    RunContext,
    process_state,
)
from tiny.config import DescentConfig


class OnePass(BaseTrainer):
    """Collects every image, then builds the memory; each of several processes does all of it."""

    shuffles = False

    def fit(
        self,
        modeler: BaseModeler,
        train: DataLoader[Batch],
        validation: DataLoader[Batch] | None,
        run: RunContext | None = None,
    ) -> History:
        assert isinstance(modeler, MemoryModeler)
        modeler.to(self.device).eval()
        with torch.inference_mode():
            for batch in self.progress(train, "collecting", len(train)):
                modeler.collect(batch.images.to(self.device))
            modeler.build()
        figures = modeler.describe()
        if run:
            run.log(figures, 1)
        return History([{"epoch": 1.0, **figures}], figures)


class Descent(BaseTrainer):
    """Epochs of gradient descent; refuses a batch that does not divide over the processes, as a trainer that shares it must."""

    config: DescentConfig

    def fit(
        self,
        modeler: BaseModeler,
        train: DataLoader[Batch],
        validation: DataLoader[Batch] | None,
        run: RunContext | None = None,
    ) -> History:
        assert isinstance(modeler, GradientModeler) and train.batch_size
        processes = process_state(self.device.type).num_processes
        if train.batch_size % processes:
            raise ConfigError(f"data.batch_size={train.batch_size} does not divide over {processes} processes. Choose another.")
        modeler.to(self.device)
        optimizer, _ = modeler.configure_optimizer(self.config.epochs)
        history = History()
        for epoch in range(1, self.config.epochs + 1):
            losses = []
            modeler.train()
            for batch in train:
                loss = modeler.training_step(batch.to(self.device))["loss"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss))
            row = {"epoch": float(epoch), "train_loss": sum(losses) / len(losses)}
            history.rows.append(row)
            if run:
                run.log(row, epoch)
        history.figures = {"train_loss": history.rows[-1]["train_loss"]}
        return history
