"""Checkpoints of a gradient training: the full state of the last epoch, and the trained tensors of the best one."""

from __future__ import annotations

import io
import math
import os
import pickle
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from anomaly_core import BaseModeler, Figures, RunContext, RunError, open_untrusted

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

LAST, BEST = "checkpoints/last.pt", "checkpoints/best.safetensors"
_DAMAGED = (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,  # tensors of a network with other parts
)


class Checkpoints:
    """The state of a training: epoch, rows of figures, the best epoch and its tensors; only the main process saves it.

    From the modeler it holds ``trained_state()``: frozen parts are the backbone's own weights, which the run loads again.
    """

    def __init__(
        self,
        modeler: BaseModeler,
        optimizer: Optimizer,
        schedule: LRScheduler | None,
        processes: Accelerator,
        run: RunContext,
    ) -> None:
        self._modeler = modeler
        self._optimizer = optimizer
        self._schedule = schedule
        self._processes = processes
        self._run = run
        self.epoch = 0
        self.rows: list[Figures] = []
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best: dict[str, Tensor] | None = None

    @staticmethod
    def exist(run: RunContext) -> bool:
        """Whether a resumed run has a checkpoint to continue from."""
        return run.resume and run.folder is not None and os.path.lexists(run.folder / LAST)

    def improve(self, epoch: int, loss: float) -> None:
        """Save the modeler's current state as the best."""
        self.best_epoch, self.best_loss = epoch, loss
        self.best = {name: value.detach().cpu().clone() for name, value in self._modeler.trained_state().items()}
        self._write(BEST, save(self.best))

    def save(self, epoch: int, row: Figures) -> None:
        """Save an epoch as the last; call it after :meth:`improve`, so that no file refers to a missing best epoch."""
        self.epoch = epoch
        self.rows.append(row)
        if self._run.write is None or not self._processes.is_main_process:
            return
        scaler = self._processes.scaler
        content = {
            "epoch": epoch,
            "rows": self.rows,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "modeler": self._modeler.trained_state(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict() if self._schedule is not None else None,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self._write(LAST, buffer.getvalue())

    def load(self) -> None:
        """Restore the last saved epoch, if any; no code in the files is executed.

        Raises:
            RunError: a file is damaged or belongs to another config.
        """
        folder = self._run.folder
        if folder is None or not self.exist(self._run):
            return
        try:
            for name in (LAST, BEST):
                if os.path.lexists(folder / name):
                    open_untrusted(folder / name).close()  # a pipe would block for ever
            content: dict[str, Any] = torch.load(folder / LAST, map_location="cpu", weights_only=True)
            self._modeler.load_state(content["modeler"], strict=False)
            self._optimizer.load_state_dict(content["optimizer"])
            if self._schedule is not None:
                self._schedule.load_state_dict(content["schedule"])
            if self._processes.scaler is not None and content["scaler"] is not None:
                self._processes.scaler.load_state_dict(content["scaler"])
            self.epoch, self.rows = content["epoch"], content["rows"]
            self.best_epoch, self.best_loss = content["best_epoch"], content["best_loss"]
            self.best = load_file(folder / BEST) if self.best_epoch else None
        except _DAMAGED as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise RunError(
                f"the checkpoint {str(folder / LAST)!r} cannot be resumed: {reason}. "
                f"Delete {str(folder / 'checkpoints')!r} to train from the start."
            ) from error

    def _write(self, name: str, content: bytes) -> None:
        if self._run.write is not None and self._processes.is_main_process:
            self._run.write(name, content)
