"""Error messages for a loss that is no longer finite: where, why, what is kept, and the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from anomaly_core import Batch, RunError

if TYPE_CHECKING:
    from anomaly_trainers.training import Training


def diverged(training: Training, batch: Batch, losses: dict[str, Tensor], where: str, precision: str) -> RunError:
    """The error for a training loss that is not finite; ``where`` names epoch and batch."""
    loss = float(losses["loss"].detach())
    return RunError(f"the loss is {loss} in {where}: {_cause(training, batch, losses, precision)} {_kept(training.epoch)}")


def diverged_on_held_out(loss: float, epoch: int) -> RunError:
    """The error for a loss of the held-out images that is not finite."""
    return RunError(
        f"the loss of the held-out images is {loss} after epoch {epoch}: the training diverged. Lower the learning rate or set "
        f"train.gradient_clip=1. {_kept(epoch)}"
    )


def _cause(training: Training, batch: Batch, losses: dict[str, Tensor], precision: str) -> str:
    """Why a loss may not be finite, and what to do about it."""
    broken = next((name for name, value in training.modeler.named_parameters() if not value.isfinite().all()), None)
    if not batch.images.isfinite().all():
        return "its images are not finite. Check the files of this data set, and what its plugin makes of them."
    if broken is not None:
        return (
            f"the weights ({broken}) are no longer finite after the step before: the training diverged. Lower the learning "
            "rate or set train.gradient_clip=1."
        )
    terms = [name for name, value in losses.items() if name != "loss" and not value.isfinite().all()]
    source = f" in {', '.join(terms)}" if terms else ""
    if precision != "32":
        return f"train.precision={precision} overflowed{source}. Set train.precision=32."
    return (
        f"weights and images are finite, so that the computation overflowed{source}. Lower the learning rate or set "
        "train.gradient_clip=1; images of a single colour may also be the cause."
    )


def _kept(epoch: int) -> str:
    """What is kept of a training that stopped during an epoch."""
    if epoch == 1:
        return "No epoch was complete."
    return f"Epoch {epoch - 1} and the best one are kept in checkpoints/, from where --resume goes on with the same options."
