"""The options of both trainers. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import Needs, TrainConfig


@dataclass(kw_only=True)
class MemoryTrainConfig(TrainConfig):
    """The memory trainer has no options of its own: one pass over the images, then the memory is built."""


@dataclass(kw_only=True)
class GradientTrainConfig(TrainConfig):
    """Training length, precision, and the choice of epoch; the method defines the optimiser and its schedule."""

    epochs: Annotated[int, Field(ge=1, description="passes over the training images")] = 100
    steps: Annotated[
        int | None,
        Field(
            ge=1,
            description="updates of the weights at the most, even if an epoch is not over then; none: as many as epochs need",
        ),
    ] = None
    precision: Annotated[
        Literal["32", "bf16-mixed", "16-mixed"], Field(description="of the training computation; scoring is always float32")
    ] = "32"
    gradient_clip: Annotated[
        float | None, Field(gt=0, description="greatest norm of a step's gradient; none leaves it as it is")
    ] = None
    keep: Annotated[
        Literal["best", "last"], Field(description="the epoch that is kept: best loss on held-out normal images, or the last")
    ] = "best"
    patience: Annotated[
        int | None, Field(ge=1, description="stop after so many epochs without a better held-out loss; none never stops early")
    ] = None
    min_delta: Annotated[
        float,
        Field(ge=0, description="by how much a held-out loss must fall to count as better"),
        Needs("train.keep=best or train.patience"),
    ] = 0.0
    keep_checkpoints: Annotated[bool, Field(description="leave the folder checkpoints/ when the run is complete")] = False
