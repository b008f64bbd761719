"""The options of PaDiM. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_core import ModelConfig, Size
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class PaDiMConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a PaDiM run; the defaults are the paper's for WideResNet50-2."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 256
    center_crop: Annotated[Size | None, Field(description="pixels cut from the centre after resizing; none keeps all")] = 224
    backbone: Annotated[
        str,
        Field(description="timm's model name; bare resnet18 or wide_resnet50_2 are other weights than the papers' .tv_in1k"),
    ] = "wide_resnet50_2.tv_in1k"
    layers: Annotated[
        tuple[int | str, ...],
        Field(min_length=1, description="feature maps, by module name or features_only index; the finest one sets the grid"),
    ] = ("layer1", "layer2", "layer3")
    n_features: Annotated[
        int | None,
        Field(ge=1, description="channels drawn from all layers, 100 for ResNet18; memory grows with their square; none: all"),
    ] = 550
    regularization: Annotated[float, Field(gt=0, description="added to the diagonal of each location's covariance")] = 0.01
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels; 0: none")] = 4.0
