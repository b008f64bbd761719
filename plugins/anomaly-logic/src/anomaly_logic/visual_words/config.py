"""The options of visual words. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_core import ModelConfig, Size
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class VisualWordsConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a run with visual words; the defaults are those of the preset ``edge``."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 384
    backbone: Annotated[str, Field(description="timm's model name")] = "tf_efficientnet_lite0"
    layers: Annotated[
        tuple[int | str, ...],
        Field(min_length=1, description="feature maps, by module name or features_only index; each has words of its own"),
    ] = ("blocks.1", "blocks.2", "blocks.4")
    cell: Annotated[int, Field(ge=1, description="side of a cell in pixels: finer feature maps are averaged over it")] = 8
    words: Annotated[int, Field(ge=2, le=1024, description="visual words of each layer")] = 32
    softness: Annotated[
        float, Field(gt=0, description="how far a cell is shared between words, in mean squared distances to the nearest one")
    ] = 1.0
    regions: Annotated[
        tuple[Annotated[int, Field(ge=1, le=16)], ...],
        Field(
            min_length=1, description="words are counted in 1 x 1, 3 x 3, ... regions of the image, for each of these numbers"
        ),
    ] = (1, 3)
    variance: Annotated[
        float,
        Field(gt=0, lt=1, description="share of the features' variance that is normal; the rest shows structural defects"),
    ] = 0.95
    top: Annotated[
        float, Field(gt=0, le=1, description="share of the image's cells, the oddest, that make its structural score")
    ] = 0.002
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels; 0: none")] = 8.0
