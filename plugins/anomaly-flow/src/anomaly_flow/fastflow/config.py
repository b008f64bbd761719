"""The options of FastFlow. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anomaly_core import ModelConfig, Size
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class FastFlowConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a FastFlow run; the defaults are the paper's for WideResNet50-2."""

    image_size: Annotated[
        Size, Field(description="pixels after resizing: one number, or height,width; for a transformer, whole patches")
    ] = 256
    backbone: Annotated[
        str,
        Field(description="timm's model name: a convolutional network, ViT, DeiT or CaiT; the papers' ResNets are .tv_in1k"),
    ] = "wide_resnet50_2.tv_in1k"
    layers: Annotated[
        tuple[int | str, ...],
        Field(min_length=1, description="feature maps, one flow each, by module name (layer1; blocks.7 of a ViT) or index"),
    ] = ("layer1", "layer2", "layer3")
    trainable_norm: Annotated[
        bool,
        Field(
            description="the LayerNorm before each flow learns scale and shift, as the original's; its scale is no part of the "
            "likelihood. A transformer has its own frozen norm instead"
        ),
    ] = True
    flow_steps: Annotated[int, Field(ge=1, description="coupling steps of each flow")] = 8
    hidden_ratio: Annotated[
        float, Field(gt=0, description="hidden channels of a step's small network, as a share of its input's")
    ] = 1.0
    conv3x3_only: Annotated[bool, Field(description="every step sees its neighbours; else 3x3 and 1x1 take turns")] = False
    clamp: Annotated[float, Field(gt=0, description="greatest log scale of a coupling step")] = 2.0
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, description="of Adam, added to the gradient")] = 1e-5
