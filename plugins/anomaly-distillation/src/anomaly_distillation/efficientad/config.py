"""The options of EfficientAD. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Needs

PUBLISHED, FEATURES = "published", "features"


@dataclass(kw_only=True)
class EfficientADConfig(ModelConfig):
    """Section ``model`` of an EfficientAD run; the defaults are the paper's."""

    size: Annotated[
        Literal["S", "M", "XS"],
        Field(description="of the networks: the paper's S and M, or XS, which is S with a quarter of its channels"),
    ] = "S"
    teacher: Annotated[
        str,
        Field(
            description="published: teacher_small.pth or teacher_medium.pth in the backbone folder; a file, such as "
            "`anomaly distill-teacher` writes; features: the patch features themselves that teachers learn to give"
        ),
    ] = PUBLISHED
    backbone: Annotated[
        str | None,
        Field(description="timm's name of the network whose patch features are the teacher"),
        Needs("model.teacher=features"),
    ] = None
    backbones: Annotated[
        str | None,
        Field(description="folder with weight files; else $ANOMALY_BACKBONES, else ./backbones"),
        Needs("model.teacher=published|features"),
    ] = None
    hard_quantile: Annotated[
        float,
        Field(ge=0, lt=1, description="of the student's errors on an image; those at or above it are learnt from, 0: all"),
    ] = 0.999
    penalty_images: Annotated[
        str | None,
        Field(description="folder of images of anything, such as ImageNet, of which the student learns to say nothing"),
    ] = None
    border: Annotated[
        Literal["zeros", "edge"],
        Field(description="of the map, where no whole patch is seen: zeros as the public code, or the map's own edge"),
    ] = "zeros"
    learning_rate: Annotated[float, Field(gt=0, description="of Adam; falls to a tenth after 95 % of the steps")] = 1e-4
    weight_decay: Annotated[float, Field(ge=0, description="of Adam, added to the gradient")] = 1e-5
