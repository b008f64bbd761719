"""The options of the tiny components; torch-free, as every plugin's are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_core import DataConfig, ModelConfig, Size, TrainConfig


@dataclass(kw_only=True)
class PaletteConfig(ModelConfig):
    """How much of the normal images is remembered, and how maps are smoothed."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 32
    share: Annotated[float, Field(gt=0, le=1, description="share of the normal images that is remembered")] = 1.0
    blur: Annotated[int, Field(ge=0, description="pixels on each side over which maps are averaged")] = 0


@dataclass(kw_only=True)
class MirrorConfig(ModelConfig):
    """The size of the network, and its learning rate."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 32
    width: Annotated[int, Field(ge=1, description="channels of the hidden layer")] = 4
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 0.01


@dataclass(kw_only=True)
class OnePassConfig(TrainConfig):
    """One pass has no option."""


@dataclass(kw_only=True)
class DescentConfig(TrainConfig):
    """How long."""

    epochs: Annotated[int, Field(ge=1, description="passes over the training images")] = 2


@dataclass(kw_only=True)
class TreeConfig(DataConfig):
    """A tree of folders needs no option but its root."""


@dataclass(kw_only=True)
class WeaveConfig(DataConfig):
    """How many pictures are drawn, and how large."""

    size: Annotated[int, Field(ge=16, description="pixels a side")] = 32
    train_count: Annotated[int, Field(ge=1, description="normal training images")] = 8
    good_count: Annotated[int, Field(ge=0, description="normal test images")] = 3
    bad_count: Annotated[int, Field(ge=0, description="anomalous test images")] = 4
