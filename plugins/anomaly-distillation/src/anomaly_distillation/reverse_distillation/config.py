"""The options of reverse distillation. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Needs
from anomaly_features import ExtractorOptions

Count = Annotated[int, Field(ge=1)]


@dataclass(kw_only=True)
class ReverseDistillationConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a run of reverse distillation; the defaults are the paper's."""

    backbone: Annotated[
        str,
        Field(
            description="timm's name of the encoder, a convolutional network; the paper's is wide_resnet50_2.tv_in1k, not "
            "bare wide_resnet50_2"
        ),
    ] = "wide_resnet50_2.tv_in1k"
    layers: Annotated[
        tuple[int | str, int | str, int | str],
        Field(description="three feature maps that are rebuilt, each half the size of the one before, by module name or index"),
    ] = ("layer1", "layer2", "layer3")
    block: Annotated[
        Literal["bottleneck", "basic"],
        Field(description="residual blocks of bottleneck and decoder: as in ResNet-50 and wider, or as in ResNet-18"),
    ] = "bottleneck"
    block_width: Annotated[
        float,
        Field(gt=0, le=4, description="inner channels of a bottleneck block, in outer ones: 0.5 as in Wide ResNet-50-2"),
        Needs("model.block=bottleneck"),
    ] = 0.5
    decoder_blocks: Annotated[
        tuple[Count, Count, Count], Field(description="residual blocks of the decoder's stages, from the embedding on")
    ] = (3, 4, 6)
    bottleneck_blocks: Annotated[int, Field(ge=1, description="residual blocks that make the embedding")] = 3
    loss: Annotated[
        Literal["flattened", "positions", "concatenated"],
        Field(
            description="cosine distance of whole flattened maps (the original's code), at each position (the paper), or "
            "at each position of all levels joined"
        ),
    ] = "flattened"
    combine: Annotated[Literal["sum", "product"], Field(description="how the levels' maps become one")] = "sum"
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels; 0: none")] = 4.0
    learning_rate: Annotated[float, Field(gt=0, description="of Adam, constant; its betas are 0.5 and 0.999")] = 0.005
