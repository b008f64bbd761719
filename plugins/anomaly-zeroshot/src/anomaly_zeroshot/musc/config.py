"""The options of MuSc. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Size
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class MuScConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a MuSc run; the defaults are the paper's."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 518
    backbone: Annotated[
        str, Field(description="timm's name of a vision transformer (CLIP, DINOv2, DINOv3, ...) or of a convolutional network")
    ] = "vit_large_patch14_clip_quickgelu_336.openai"
    layers: Annotated[
        tuple[int | str, ...],
        Field(
            min_length=1,
            description="blocks of a transformer from 0, or a convolutional network's modules; scores are averaged",
        ),
    ] = ("blocks.5", "blocks.11", "blocks.17", "blocks.23")
    neighbourhoods: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, description="sides, in patches, of the windows over which features are averaged; odd numbers"),
    ] = (1, 3, 5)
    lowest: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(gt=0, le=1)]],
        Field(description="a patch is scored by this interval of the other images, from the most similar (0) to the least (1)"),
    ] = (0.0, 0.3)
    rscin: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(
            description="numbers of similar images, itself counted, over which an image's score is averaged; []: none. Similar "
            "are class tokens, or the pooled last layer of a convolutional network"
        ),
    ] = (1, 2, 3)
    most_images: Annotated[
        int | None,
        Field(ge=5, description="compare with so many of the images, drawn at random; memory and time grow with it; none: all"),
    ] = None
    store: Annotated[Literal["float16", "float32"], Field(description="precision in which the images' features are kept")] = (
        "float32"
    )
