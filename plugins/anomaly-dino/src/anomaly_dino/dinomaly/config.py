"""The options of Dinomaly. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_core import ModelConfig, Size
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class DinomalyConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a Dinomaly run; the defaults are the paper's for one model of all categories."""

    image_size: Annotated[
        Size,
        Field(description="pixels after resizing: one number, or height,width; what the transformer sees are whole patches"),
    ] = 448
    center_crop: Annotated[Size | None, Field(description="pixels cut from the centre after resizing; none keeps all")] = 392
    backbone: Annotated[str, Field(description="timm's name of a vision transformer")] = "vit_base_patch14_reg4_dinov2"
    layers: Annotated[
        tuple[int | str, ...],
        Field(min_length=1, description="its blocks, counted from 0; the decoder has as many, and the last rebuilds the first"),
    ] = tuple(f"blocks.{number}" for number in range(2, 10))
    groups: Annotated[int, Field(ge=1, description="blocks are compared by the means of so many groups")] = 2
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="of the bottleneck, in training; the paper has 0.4 for Real-IAD")
    ] = 0.2
    hardest: Annotated[
        float, Field(gt=0, le=1, description="share of the points, those that are rebuilt worst, whose gradient stays whole")
    ] = 0.1
    easy_gradient: Annotated[
        float, Field(ge=0, le=1, description="by which the gradient of the other points is multiplied")
    ] = 0.1
    mining_steps: Annotated[int, Field(ge=1, description="steps over which that share falls from all of them")] = 1000
    map_size: Annotated[
        Size | None,
        Field(description="pixels of the map that is smoothed and that image scores are taken from; none: the input's"),
    ] = 256
    learning_rate: Annotated[float, Field(gt=0, description="of StableAdamW, after the warm-up; it falls to a tenth")] = 2e-3
    weight_decay: Annotated[float, Field(ge=0, description="of StableAdamW, times the learning rate")] = 1e-4
