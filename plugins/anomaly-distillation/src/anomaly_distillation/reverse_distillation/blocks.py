"""Residual blocks that halve their input, as an encoder's do, or double it, as a decoder's do."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["bottleneck", "basic"]
Scale = Literal["half", "same", "double"]


class ResidualBlock(nn.Module):
    """A residual block of a ResNet, whose names of tensors are those of the original code.

    ``bottleneck``: 1x1, 3x3, 1x1 convolutions; ``basic``: two of 3x3. Each has a batch norm. The 3x3 convolution that changes
    the size (a basic block's first) has stride 2, or is a transposed 2x2 convolution that doubles; so is the shortcut's.

    Args:
        channels: of the input.
        planes: of the output.
        kind: ``bottleneck`` or ``basic``.
        width: channels of a bottleneck's inner convolutions.
        scale: whether height and width are halved, kept or doubled.
    """

    def __init__(self, channels: int, planes: int, kind: Kind, width: int, scale: Scale = "same") -> None:
        super().__init__()
        self.kind = kind
        self.conv1: nn.Module
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None
        if kind == "bottleneck":
            self.conv1, self.bn1 = _convolution(channels, width), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _scaling(width, width, scale), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = _convolution(width, planes), nn.BatchNorm2d(planes)
        else:
            self.conv1, self.bn1 = _scaling(channels, planes, scale), nn.BatchNorm2d(planes)
            self.conv2, self.bn2 = _scaling(planes, planes, "same"), nn.BatchNorm2d(planes)
        if scale == "double":
            self.upsample = nn.Sequential(_scaling(channels, planes, scale), nn.BatchNorm2d(planes))
        elif scale == "half" or channels != planes:
            step = 2 if scale == "half" else 1
            self.downsample = nn.Sequential(_convolution(channels, planes, stride=step), nn.BatchNorm2d(planes))

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, planes, h', w')."""
        shortcut = self.upsample or self.downsample
        residual = features if shortcut is None else shortcut(features)
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(features)))))
        if self.kind == "bottleneck":
            out = self.bn3(self.conv3(torch.relu(out)))
        return torch.relu(out + residual)


def stage(channels: int, planes: int, blocks: int, kind: Kind, share: float, scale: Scale) -> nn.Sequential:
    """Residual blocks in a row, of which the first changes channels and size; ``share``: a bottleneck's width in ``planes``."""
    width = max(1, round(planes * share))
    first = ResidualBlock(channels, planes, kind, width, scale)
    return nn.Sequential(first, *(ResidualBlock(planes, planes, kind, width) for _ in range(blocks - 1)))


def start(network: nn.Module) -> None:
    """Draw the weights of ordinary convolutions as ResNets do (He et al., fan out); others keep torch's own start."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _convolution(channels: int, planes: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, planes, 1, stride, bias=False)


def _scaling(channels: int, planes: int, scale: Scale) -> nn.Module:
    if scale == "double":
        return nn.ConvTranspose2d(channels, planes, 2, 2, bias=False)
    return nn.Conv2d(channels, planes, 3, 2 if scale == "half" else 1, padding=1, bias=False)
