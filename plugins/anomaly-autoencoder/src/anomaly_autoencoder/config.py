"""The options that the autoencoders share. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from anomaly_core import ModelConfig, Needs, Size

Width = Annotated[int, Field(ge=1)]
Cell = Annotated[int, Field(ge=1)]
Stride = Annotated[int, Field(ge=2)]


@dataclass(kw_only=True)
class AutoencoderConfig(ModelConfig):
    """What every autoencoder understands; the defaults are Bergmann et al.'s where they have one."""

    image_size: Annotated[Size, Field(description="pixels after resizing: one number, or height,width")] = 128
    widths: Annotated[
        tuple[Width, ...], Field(min_length=1, description="channels of each stage, the finest first; a stage halves the side")
    ] = (32, 32, 64, 128)
    bottleneck: Annotated[
        Literal["vector", "map"],
        Field(description="latent values: of the whole image, or of each cell of the deepest stage's map"),
    ] = "vector"
    latent_dim: Annotated[int, Field(ge=1, description="latent values of the image, or of each cell")] = 100
    norm: Annotated[bool, Field(description="batch normalisation after each convolution")] = False
    mse_weight: Annotated[float, Field(ge=0, description="of the mean squared error in the loss")] = 0.0
    l1_weight: Annotated[float, Field(ge=0, description="of the mean absolute error in the loss")] = 0.0
    ssim_weight: Annotated[float, Field(ge=0, description="of 1 - SSIM in the loss")] = 1.0
    noise_strength: Annotated[
        float, Field(ge=0, description="standard deviation of the blots that the network learns to remove; 0: none")
    ] = 0.0
    noise_cells: Annotated[
        tuple[Cell, ...],
        Field(min_length=1, description="sizes of the blots in pixels; each image gets one of them"),
        Needs("model.noise_strength"),
    ] = (4, 8, 16)
    noise_share: Annotated[
        float, Field(gt=0, le=1, description="of an image that is blotted, on average"), Needs("model.noise_strength")
    ] = 1.0
    map_error: Annotated[
        Literal["squared", "absolute"],
        Field(description="the error of a pixel in the map, mean over channels"),
        Needs("model.map_error_weight"),
    ] = "absolute"
    map_error_weight: Annotated[float, Field(ge=0, description="of the pixel's error in the map")] = 0.0
    map_ssim_weight: Annotated[float, Field(ge=0, description="of 1 - SSIM around the pixel in the map")] = 1.0
    sigma: Annotated[float, Field(ge=0, description="of the Gaussian that smooths the map, in pixels; 0: none")] = 4.0
    image_score: Annotated[Literal["max", "mean"], Field(description="of the map: an image's score")] = "max"
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 2e-4
    weight_decay: Annotated[float, Field(ge=0, description="of Adam, added to the gradient")] = 1e-5
    schedule: Annotated[
        Literal["constant", "cosine"], Field(description="of the learning rate: as it is, or falling to 0 over all epochs")
    ] = "constant"


@dataclass(kw_only=True)
class SkipConfig(AutoencoderConfig):
    """What an autoencoder with skips understands besides."""

    noise_strength: Annotated[
        float, Field(ge=0, description="standard deviation of the blots that the network learns to remove; 0: none")
    ] = 0.2
    skips: Annotated[
        tuple[Stride, ...],
        Field(description="strides whose maps pass the latent values by, 2 the finest; the finer, the sharper the copy"),
    ] = (4, 8)
