"""Network: encoder, latent values and decoder, with or without skips; what both kinds of autoencoder are built on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from anomaly_autoencoder.blocks import Decoder, Encoder, Grid, Squeeze, Unsqueeze, pad_to, padded, strides
from anomaly_core import ConfigError

Bottleneck = Literal["vector", "map"]


class Network(nn.Module):
    """Encoder, latent values, decoder.

    Args:
        size: (H, W) of the images, any; the border is repeated until the strides divide it, and cut off again.
        widths: channels of each stage, the finest first; a stage halves the side.
        latent_dim: latent values of an image (``vector``) or of each cell of the deepest map (``map``).
        bottleneck: ``vector`` or ``map``; with ``map`` images of other sizes fit as well.
        norm: batch normalisation after each convolution.
        skips: strides whose encoder maps pass the latent values by, such as (4, 8); 2 is the finest.
        numbers: how many numbers describe a latent value.

    The defaults are Bergmann et al.'s where they have one.

    Raises:
        ConfigError: a skip's stride that no stage has, or that of the deepest; images of another size than a vector's.
    """

    def __init__(
        self,
        size: Grid,
        widths: Sequence[int] = (32, 32, 64, 128),
        latent_dim: int = 100,
        bottleneck: Bottleneck = "vector",
        norm: bool = False,
        skips: Sequence[int] = (),
        *,
        numbers: int = 1,
    ) -> None:
        super().__init__()
        known = strides(len(widths))
        for stride in skips:
            if stride not in known:
                raise ConfigError(
                    f"model.skips has stride {stride}, and the encoder of {len(widths)} stages has a map to join in at "
                    f"{', '.join(map(str, known)) or 'none'}. Choose from these, or give model.widths another stage."
                )
        self.multiple: int = 2 ** len(widths)
        self.size = None if bottleneck == "map" else size
        grid = None if self.size is None else (self._cells(size[0]), self._cells(size[1]))
        self.encoder = Encoder(widths, norm)
        self.squeeze = Squeeze(widths[-1], numbers * latent_dim, grid)
        self.unsqueeze = Unsqueeze(widths[-1], latent_dim, grid)
        self.decoder = Decoder(widths, norm, skips)

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) images -> the numbers of the latent values (B, numbers * L, h, w), and the encoder's maps."""
        height, width = images.shape[-2:]
        if self.size not in (None, (height, width)):
            raise ConfigError(
                f"images of {height}x{width} do not fit a network whose latent vector sees {self.size}. "
                "Resize them, or choose model.bottleneck=map."
            )
        images = images.contiguous(memory_format=torch.channels_last)  # a quarter faster on a CPU
        features = self.encoder(pad_to(images, self.multiple)[0])
        return self.squeeze(features[-1]), features

    def decode(self, latents: Tensor, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """Latent values and the encoder's maps -> (B, 3, H, W), of the images' size."""
        _, (rows, columns) = pad_to(images[:1], self.multiple)
        reconstruction: Tensor = self.decoder(self.unsqueeze(latents), features)
        return reconstruction[..., rows, columns]

    def _cells(self, side: int) -> int:
        return padded(side, self.multiple) // self.multiple
