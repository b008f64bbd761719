"""The options of SuperSimpleNet. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Needs
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class SuperSimpleNetConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a SuperSimpleNet run; the defaults are the paper's for normal images alone."""

    backbone: Annotated[
        str, Field(description="timm's model name; the paper's is wide_resnet50_2.tv_in1k, not bare wide_resnet50_2")
    ] = "wide_resnet50_2.tv_in1k"
    layers: Annotated[
        tuple[int | str, ...],
        Field(min_length=1, description="feature maps that are joined, finest first, by module name or index"),
    ] = ("layer2", "layer3")
    upscale: Annotated[
        int, Field(ge=1, le=4, description="how many times finer than the first of these maps the joined one is, on each side")
    ] = 2
    standardize: Annotated[
        bool, Field(description="scale each channel of the features to mean 0 and deviation 1 over the normal training images")
    ] = False
    hidden_channels: Annotated[int, Field(ge=1, description="channels inside the head that makes the map")] = 1024
    head_channels: Annotated[int, Field(ge=1, description="channels inside the head that makes the score")] = 128
    noise_std: Annotated[float, Field(gt=0, description="standard deviation of the noise that stands for anomalies")] = 0.015
    noise_places: Annotated[
        Literal["perlin", "everywhere"],
        Field(description="where noise is added: in blots of Perlin noise; or everywhere, to half of the copies, as SimpleNet"),
    ] = "perlin"
    perlin_threshold: Annotated[
        float,
        Field(description="level that Perlin noise exceeds in a blot: lower means larger blots; 0.2 MVTec AD, 0.6 VisA"),
        Needs("model.noise_places=perlin"),
    ] = 0.2
    noise_on_defects: Annotated[
        Literal["everywhere", "beside", "never"],
        Field(description="for known defects: noise on them and beside them, beside them alone, or none on their images"),
    ] = "beside"
    flips: Annotated[bool, Field(description="learn known defects mirrored and turned by 180 degrees too")] = True
    stop_grad: Annotated[
        bool,
        Field(description="the score's loss does not train the map; off, images that have no mask train it too"),
    ] = True
    image_score: Annotated[
        Literal["head", "map", "auto"],
        Field(
            description="what an image's score is: the score head's, the map's highest value, or with auto the head's if it "
            "was shown known defects, else the map's"
        ),
    ] = "head"
    adaptor_learning_rate: Annotated[float, Field(gt=0, description="of AdamW, for the layer that adapts the features")] = 1e-4
    learning_rate: Annotated[
        float, Field(gt=0, description="of AdamW, for both heads; times 0.4 after 80 % and 90 % of the training")
    ] = 2e-4
