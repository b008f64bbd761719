"""PatchCore's options. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from anomaly_core.options import ModelConfig, Size
from pydantic import Field


@dataclass(kw_only=True)
class PatchCoreConfig(ModelConfig):
    """Defaults are the official code's."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 256
    center_crop: Annotated[Size | None, Field(description="pixels cut from the centre after resizing; none keeps all")] = 224
    backbone: Annotated[str, Field(description="timm's name; the paper's weights carry the tag tv_in1k")] = "wide_resnet50_2.tv_in1k"
    layers: Annotated[list[int | str], Field(min_length=1, description="feature levels, shallow to deep: indices or timm's names")] = (
        field(default_factory=lambda: ["layer2", "layer3"])
    )
    patch_size: Annotated[int, Field(ge=1, le=15, description="side of a patch, in feature cells; odd")] = 3
    pretrain_dim: Annotated[int | None, Field(ge=1, description="values that each layer's patch is pooled to; none averages the patch")] = 1024
    target_dim: Annotated[int | None, Field(ge=1, description="values of a patch in the bank; none keeps all")] = 1024
    coreset_ratio: Annotated[float, Field(gt=0, le=1, description="share of the training patches that the bank keeps")] = 0.1
    projection_dim: Annotated[int | None, Field(ge=1, description="random projection for the coreset's search; none searches as is")] = 128
    neighbors: Annotated[int, Field(ge=1, description="nearest bank entries whose squared distances are averaged")] = 1
    reweight: Annotated[bool, Field(description="the paper's equation 7, which the official code leaves out")] = False
    reweight_neighbors: Annotated[int, Field(ge=2, description="bank entries around the nearest one, for equation 7")] = 9
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels")] = 4.0
