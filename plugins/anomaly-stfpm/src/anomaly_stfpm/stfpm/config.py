"""The options of STFPM. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_core import ModelConfig, Size
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class STFPMConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of an STFPM run; the defaults are the paper's."""

    backbone: Annotated[
        str,
        Field(description="timm's model name, of teacher and student; the paper's is resnet18.tv_in1k, not bare resnet18"),
    ] = "resnet18.tv_in1k"
    layers: Annotated[
        tuple[int | str, ...], Field(min_length=1, description="feature maps that are compared, by module name or index")
    ] = ("layer1", "layer2", "layer3")
    map_size: Annotated[
        Size, Field(description="pixels at which the levels' maps are multiplied: one number, or height,width")
    ] = 64
    learning_rate: Annotated[float, Field(gt=0, description="of SGD, constant")] = 0.4
    momentum: Annotated[float, Field(ge=0, lt=1, description="of SGD")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, description="of SGD, added to the gradient")] = 1e-4
