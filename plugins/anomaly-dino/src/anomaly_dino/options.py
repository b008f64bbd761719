"""PatchOptions: which patches a method of this distribution looks at. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Size
from anomaly_features import ExtractorOptions

# What is averaged: all layers, none of them, or consecutive groups of so many.
Combine = Literal["mean", "concat"] | tuple[Annotated[int, Field(ge=1)], ...]

# The options of which methods have defaults of their own.
ImageSize = Annotated[
    Size, Field(description="pixels after resizing: one number, or height,width; a transformer sees whole patches of it")
]
Backbone = Annotated[str, Field(description="timm's name of a vision transformer or of a convolutional network")]
Layers = Annotated[
    tuple[int | str, ...],
    Field(
        min_length=1,
        description="a transformer's blocks, counted from 0; feature maps of other networks, by module name or "
        "features_only index",
    ),
]
FinalNorm = Annotated[
    bool, Field(description="normalise a transformer's layers by its own last norm; other networks have none")
]


@dataclass(kw_only=True)
class PatchOptions(ExtractorOptions, ModelConfig):
    """The backbone, its layers, and how they become one grid of patches."""

    image_size: ImageSize = 448
    center_crop: Annotated[Size | None, Field(description="pixels cut from the centre after resizing; none keeps all")] = None
    backbone: Backbone = "vit_small_patch14_dinov2"
    layers: Layers = ("blocks.11",)
    combine: Annotated[
        Combine,
        Field(
            description="how layers become one: their mean, concat, or sizes of consecutive groups, such as 2,2: each is "
            "averaged, then they are concatenated"
        ),
    ] = "mean"
    final_norm: FinalNorm = True
    pool_size: Annotated[
        int, Field(ge=1, le=15, description="side of the square of patches that is averaged around each; odd; 1: none")
    ] = 1
    batched: Annotated[
        bool,
        Field(
            description="learn no normal image: the run's test images are judged by one another, without their labels (batched "
            "zero-shot)"
        ),
    ] = False
