"""The two networks: an autoencoder and a variational one, each with or without skips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from anomaly_autoencoder.blocks import Decoder, Encoder, Grid, Squeeze, Unsqueeze, pad_to, padded, strides
from anomaly_core.errors import ConfigError

Bottleneck = Literal["vector", "map"]
LOG_VARIANCES = (-10.0, 10.0)  # beyond them, exp leaves what float16 can hold


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

    Raises:
        ConfigError: a skip's stride that no stage has, or that of the deepest; images of another size than a vector's.
    """

    def __init__(
        self,
        size: Grid,
        widths: Sequence[int],
        latent_dim: int,
        bottleneck: Bottleneck,
        norm: bool,
        skips: Sequence[int] = (),
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


class Autoencoder(Network):
    """A network whose latent values are numbers; arguments as :class:`Network`."""

    def forward(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) images in [0, 1] -> their reconstructions, about [0, 1] but not cut to it."""
        latents, features = self.encode(images)
        return self.decode(latents, features, images)


class VariationalAutoencoder(Network):
    """A network whose latent values are normal distributions: drawn from in train mode, their means in eval mode.

    Arguments as :class:`Network`, without ``numbers``.
    """

    def __init__(
        self,
        size: Grid,
        widths: Sequence[int],
        latent_dim: int,
        bottleneck: Bottleneck,
        norm: bool,
        skips: Sequence[int] = (),
    ) -> None:
        super().__init__(size, widths, latent_dim, bottleneck, norm, skips, numbers=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float (B, 3, H, W) images in [0, 1] -> reconstructions, means and log variances (B, L, h, w)."""
        numbers, features = self.encode(images)
        mean, log_variance = numbers.chunk(2, dim=1)
        log_variance = log_variance.clamp(*LOG_VARIANCES)
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        return self.decode(latents, features, images), mean, log_variance
