"""The options of DRAEM. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Needs


@dataclass(kw_only=True)
class DRAEMConfig(ModelConfig):
    """Section ``model`` of a DRAEM run; the defaults are the paper's."""

    reconstructive_width: Annotated[int, Field(ge=1, description="channels of the reconstructive network's first block")] = 128
    discriminative_width: Annotated[int, Field(ge=1, description="channels of the discriminative network's first block")] = 64
    textures: Annotated[
        str | None,
        Field(description="folder of source images, such as DTD; none: procedural textures and the training images themselves"),
        Needs("model.anomaly_probability"),
    ] = None
    self_share: Annotated[
        float,
        Field(ge=0, le=1, description="without textures: share of anomalies that are cut from another training image"),
        Needs("model.textures=null and model.anomaly_probability"),
    ] = 0.5
    anomaly_probability: Annotated[float, Field(ge=0, le=1, description="that an image gets a synthetic anomaly")] = 0.5
    rotation_probability: Annotated[
        float, Field(ge=0, le=1, description="that a normal image is turned by up to 90 degrees before it is used")
    ] = 0.3
    rotation_fill: Annotated[
        Literal["black", "mirror"],
        Field(description="what fills the corners of a turned image; black ones teach that black is normal"),
        Needs("model.rotation_probability"),
    ] = "black"
    max_transparency: Annotated[
        float,
        Field(ge=0, lt=1, description="greatest share of the normal image that shows through an anomaly"),
        Needs("model.anomaly_probability"),
    ] = 0.8
    score_window: Annotated[int, Field(ge=1, description="side in pixels of the window whose mean probability scores; odd")] = (
        21
    )
    learning_rate: Annotated[float, Field(gt=0, description="of Adam; falls to a fifth after 80 and 90 % of the epochs")] = 1e-4
