"""The options of AnomalyDINO. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import Needs
from anomaly_dino.options import PatchOptions


@dataclass(kw_only=True)
class AnomalyDINOConfig(PatchOptions):
    """Section ``model`` of an AnomalyDINO run; the defaults are the paper's."""

    metric: Annotated[
        Literal["cosine", "l2"], Field(description="distance of patches: 1 - cosine, or Euclidean between features as they are")
    ] = "cosine"
    neighbors: Annotated[int, Field(ge=1, description="nearest patches of the bank whose distances are averaged")] = 1
    rotations: Annotated[
        int,
        Field(ge=1, le=360, description="angles, evenly spaced from 0, at which each image is learnt; 1: as it is alone"),
    ] = 8
    mask: Annotated[
        Literal["paper", "always", "never"],
        Field(
            description="score the object's patches alone, others 0; paper: of VisA's categories, and of MVTec AD's capsule, "
            "hazelnut, pill, screw and toothbrush, by their names"
        ),
    ] = "paper"
    mask_threshold: Annotated[
        float,
        Field(
            gt=0, description="of the first principal component, in units of the features, beyond which a patch is the object's"
        ),
        Needs("model.mask!=never"),
    ] = 10.0
    mask_morphology: Annotated[
        Literal["list", "grid"],
        Field(description="dilate and close masks along the list of patches, as the original code does, or by 3 x 3 patches"),
        Needs("model.mask!=never"),
    ] = "list"
    mask_references: Annotated[bool, Field(description="learn the object's patches alone, too"), Needs("model.mask!=never")] = (
        False
    )
    bank_size: Annotated[
        int | None, Field(ge=1, description="the most patches that the bank keeps; none: all that it was given")
    ] = None
    bank_keeps: Annotated[
        Literal["coreset", "newest"],
        Field(
            description="which patches a full bank keeps: those that cover all of them best (greedy k-center), or those that "
            "came last"
        ),
        Needs("model.bank_size"),
    ] = "coreset"
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels; 0: none")] = 4.0
