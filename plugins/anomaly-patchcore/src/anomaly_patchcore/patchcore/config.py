"""The options of PatchCore. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Needs, Size
from anomaly_features import ExtractorOptions


@dataclass(kw_only=True)
class PatchCoreConfig(ExtractorOptions, ModelConfig):
    """Section ``model`` of a PatchCore run; the defaults are the paper's."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 256
    center_crop: Annotated[Size | None, Field(description="pixels cut from the centre after resizing; none keeps all")] = 224
    backbone: Annotated[
        str,
        Field(description="timm's model name; bare resnet18 or wide_resnet50_2 are other weights than the papers' .tv_in1k"),
    ] = "wide_resnet50_2.tv_in1k"
    layers: Annotated[
        tuple[int | str, ...], Field(min_length=1, description="feature maps, by module name or features_only index")
    ] = ("layer2", "layer3")
    patch_size: Annotated[int, Field(ge=1, le=15, description="side of a patch in feature cells; odd")] = 3
    pretrain_dim: Annotated[
        int, Field(ge=1, description="values that each layer's patch is pooled to"), Needs("model.target_dim")
    ] = 1024
    target_dim: Annotated[
        int | None,
        Field(ge=1, description="values of a patch's embedding; none: patches averaged, layers concatenated, no pooling"),
    ] = 1024
    coreset_ratio: Annotated[
        float,
        Field(gt=0, le=1, description="share of all patches that the memory bank keeps"),
        Needs("model.bank_size=null"),
    ] = 0.1
    bank_size: Annotated[
        int | None,
        Field(ge=1, description="patches that the memory bank keeps, whatever the number of images; none: a share of them"),
    ] = None
    coreset: Annotated[
        Literal["exact", "streamed"],
        Field(
            description="greedy k-center of all patches, or of the coresets of blocks, for thousands of images: faster, less "
            "memory, the radius an upper bound"
        ),
        Needs("model.coreset_ratio!=1 or model.bank_size"),
    ] = "exact"
    projection_dim: Annotated[
        int | None,
        Field(ge=0, description="values that the coreset is searched in, by a random projection; none or 0: all"),
        Needs("model.coreset_ratio!=1 or model.bank_size or model.memory_budget"),
    ] = 128
    neighbors: Annotated[int, Field(ge=1, description="nearest entries whose squared distances are averaged")] = 1
    whiten: Annotated[
        bool,
        Field(description="distances in which all principal directions of the training patches count alike, however they vary"),
    ] = False
    whiten_components: Annotated[
        int | None,
        Field(ge=1, description="principal directions that whitened patches keep; none: all"),
        Needs("model.whiten"),
    ] = None
    whiten_shrinkage: Annotated[
        float,
        Field(ge=0, lt=1, description="how far their variances are drawn to the mean, so that noise is not blown up; 0: not"),
        Needs("model.whiten"),
    ] = 0.1
    neighbourhood: Annotated[
        int | None,
        Field(
            ge=0,
            description="a patch is compared only with patches at most so many rows and columns of cells away, for parts that "
            "stand still; none: with all",
        ),
    ] = None
    search: Annotated[
        Literal["exact", "ivf", "hnsw"],
        Field(
            description="nearest neighbours: exact, or faster and approximate in the maps alone; needs anomaly-patchcore[faiss]"
        ),
    ] = "exact"
    bank_dtype: Annotated[
        Literal["float32", "float16"], Field(description="of the memory bank; float16 takes half the memory")
    ] = "float32"
    collect_dtype: Annotated[
        Literal["float32", "float16"],
        Field(description="of the patches while they are collected; float16 takes half the memory and rounds them"),
    ] = "float32"
    memory_budget: Annotated[
        str | None,
        Field(description="most memory that a run may take above the network's own, such as 2GiB; none: no bound"),
    ] = None
    reweight: Annotated[bool, Field(description="weigh the image score by the paper's equation 7")] = False
    reweight_neighbors: Annotated[
        int, Field(ge=2, description="entries around the nearest one that equation 7 looks at"), Needs("model.reweight")
    ] = 9
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels; 0: none")] = 4.0
