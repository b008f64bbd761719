"""The networks: patch description networks (teacher, student) and the autoencoder; tensors are named as the original's."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import nn

Size = Literal["S", "M", "XS"]
DROPOUT = 0.2
KERNEL = 4
BORDER = 4  # positions at each side of an image where no whole patch is seen
SMALLEST = 64  # pixels of a side; below, a patch description network has no more than a few positions


class Shape(NamedTuple):
    """The channels of EfficientAD's networks.

    Attributes:
        deep: a patch description network of six convolutions (M), not four (S).
        width: channels of its first convolution.
        features: channels that a teacher gives.
        latent: channels of the autoencoder's narrowest layer.
    """

    deep: bool
    width: int
    features: int
    latent: int


# S and M are the paper's; XS is S with a quarter of its channels, our own.
SHAPES: dict[Size, Shape] = {
    "S": Shape(False, 128, 384, 64),
    "M": Shape(True, 256, 384, 64),
    "XS": Shape(False, 32, 96, 32),
}


def patch_description_network(shape: Shape, outputs: int, padded: bool = False) -> nn.Sequential:
    """Images (B, 3, H, W) to descriptions of their patches, (B, outputs, h, w): one every 4 pixels.

    Without padding a position sees whole patches alone: 56x56 of them at 256 pixels. A teacher learns with padding, 64x64.
    """
    width, outer, inner = shape.width, 3 if padded else 0, 1 if padded else 0

    def pool() -> nn.Module:
        return nn.AvgPool2d(2, 2, padding=inner)

    first = [nn.Conv2d(3, width, KERNEL, padding=outer), nn.ReLU(), pool()]
    second = [nn.Conv2d(width, 2 * width, KERNEL, padding=outer), nn.ReLU(), pool()]
    third = [nn.Conv2d(2 * width, 2 * width, 3, padding=inner), nn.ReLU()]
    if not shape.deep:
        return nn.Sequential(*first, *second, *third, nn.Conv2d(2 * width, outputs, KERNEL))
    pointwise = [nn.Conv2d(2 * width, 2 * width, 1), nn.ReLU()]
    fifth = [nn.Conv2d(2 * width, outputs, KERNEL), nn.ReLU()]
    return nn.Sequential(*first, *second, *pointwise, *third, *fifth, nn.Conv2d(outputs, outputs, 1))


def positions(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w): how many positions a patch description network without padding has at images of (H, W) pixels."""
    height, width = (((side - 3) // 2 - 3) // 2 - 5 for side in size)
    return height, width


def autoencoder(shape: Shape, size: tuple[int, int]) -> nn.Sequential:
    """Images (B, 3, H, W) of one size to (B, features, h, w), at the positions of a patch description network.

    All that passes is one vector of an image: the convolution in the middle sees the whole of what is left of it, 8x8 at 256
    pixels. Other sizes, which the original does not have, are enlarged in proportion.
    """
    latent, half = shape.latent, shape.latent // 2
    layers: list[nn.Module] = []
    for channels, planes in ((3, half), (half, half), (half, latent), (latent, latent), (latent, latent)):
        layers += [nn.Conv2d(channels, planes, KERNEL, stride=2, padding=1), nn.ReLU()]
    layers.append(nn.Conv2d(latent, latent, (size[0] // 32, size[1] // 32)))
    for divisor, less in ((64, 1), (32, 0), (16, 1), (8, 0), (4, 1), (2, 1)):
        height, width = (max(1, side // divisor - less) for side in size)
        layers += [nn.Upsample((height, width), mode="bilinear", align_corners=False)]
        layers += [nn.Conv2d(latent, latent, KERNEL, padding=2), nn.ReLU(), nn.Dropout(DROPOUT)]
    layers += [nn.Upsample(positions(size), mode="bilinear", align_corners=False)]
    layers += [nn.Conv2d(latent, latent, 3, padding=1), nn.ReLU(), nn.Conv2d(latent, shape.features, 3, padding=1)]
    return nn.Sequential(*layers)
