"""The options of SubspaceAD. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import Needs
from anomaly_dino.options import Backbone, FinalNorm, ImageSize, Layers, PatchOptions


@dataclass(kw_only=True)
class SubspaceConfig(PatchOptions):
    """Section ``model`` of a SubspaceAD run; the defaults are the paper's but for the backbone, which is giant there (preset
    ``paper``), and its layers."""

    image_size: ImageSize = 672
    backbone: Backbone = "vit_small_patch14_reg4_dinov2"
    layers: Layers = ("blocks.5", "blocks.6", "blocks.7", "blocks.8")
    final_norm: FinalNorm = False
    variance: Annotated[
        float,
        Field(gt=0, lt=1, description="share of the variance that the subspace keeps"),
        Needs("model.pca_dim=null"),
    ] = 0.99
    pca_dim: Annotated[
        int | None, Field(ge=1, description="dimensions of the subspace; none: as many as the share of the variance takes")
    ] = None
    score: Annotated[
        Literal["reconstruction", "mahalanobis", "euclidean", "cosine"],
        Field(
            description="of a patch: its squared distance from the subspace; within it, its squared Mahalanobis or Euclidean "
            "distance from the mean; 1 - cosine to its projection"
        ),
    ] = "reconstruction"
    drop_k: Annotated[
        int, Field(ge=0, description="first components that do not count to the subspace: what varies most, such as the light")
    ] = 0
    kernel: Annotated[
        Literal["linear", "rbf"],
        Field(description="rbf: kernel PCA of patches by a Gaussian kernel, for a few images; cannot be extended"),
    ] = "linear"
    kernel_patches: Annotated[
        int,
        Field(ge=2, le=20000, description="patches that kernel PCA is fitted on, drawn at random where there are more"),
        Needs("model.kernel=rbf"),
    ] = 2048
    rotations: Annotated[
        int | None,
        Field(
            ge=0,
            le=360,
            description="turned copies that are learnt of each image; none: 30 of each of up to 16 images, and no copies of "
            "more, nor of MVTec AD's transistor, whose position matters",
        ),
    ] = None
    foreground: Annotated[
        bool, Field(description="learn and score the object's patches alone, as AnomalyDINO finds them; others score 0")
    ] = False
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels; 0: none")] = 4.0
    blur_size: Annotated[
        int | None,
        Field(ge=3, description="pixels of a side of that Gaussian; odd; none: as many as sigma takes"),
        Needs("model.sigma"),
    ] = 3
    image_score: Annotated[
        Literal["mtop1p", "mtop5", "p99", "max", "mean"],
        Field(
            description="of an image, from its map: the mean of the greatest hundredth or of the greatest five values, the "
            "99th percentile, the greatest, the mean"
        ),
    ] = "mtop1p"
