"""The options of global kNN; imports no torch, so that the command line stays fast."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_core import ModelConfig
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class GlobalKNNConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a global kNN run; ExtractorOptions adds where weights come from, the engine and the cache."""

    backbone: Annotated[str, Field(description="timm's model name; the paper's is a ResNet")] = "wide_resnet50_2.tv_in1k"
    layers: Annotated[tuple[int | str, ...], Field(min_length=1, description="feature maps, by module name or index")] = (
        "layer3",
        "layer4",
    )
    neighbours: Annotated[int, Field(ge=1, description="normal images whose mean distance is the score; the paper's k")] = 2
