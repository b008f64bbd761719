"""Textures that need no file: noise, stripes, cells and plain colours, drawn anew for every image of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from anomaly_draem.augment import uniform
from anomaly_draem.perlin import random_perlin_noise

CELLS = 48  # most cells of a pattern of cells


def procedural_textures(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Patterns of one of four kinds between two random colours, under grain of random strength.

    Returns:
        float32 (count, 3, H, W) in [0, 1] on the device; drawn from torch's global generator of the CPU.
    """
    pattern = torch.empty(count, *size, device=device)
    kinds = torch.randint(len(KINDS), (count,))
    for number, kind in enumerate(KINDS):
        these = (kinds == number).nonzero()[:, 0]
        if len(these):
            pattern[these.to(device)] = kind(len(these), size, device)
    first, second = (torch.rand(count, 3, 1, 1).to(device) for _ in range(2))
    grain = torch.randn(count, 1, *size).to(device) * uniform(0, 0.15, count, 1, 1, 1).to(device)
    return (torch.lerp(first, second, pattern[:, None].expand(-1, 3, -1, -1)) + grain).clamp(0, 1)


def clouds(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Perlin noise of three random scales."""
    layers = [random_perlin_noise(count, size, device) * 0.6**level for level in range(3)]
    return _sharpened(torch.stack(layers).sum(dim=0), count)


def stripes(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Waves of any direction and of 3 to 40 periods across the image, bent by noise."""
    y, x = _coordinates(size, device)
    direction = uniform(0, math.pi, count, 1, 1).to(device)
    periods = (3 * (40 / 3) ** torch.rand(count, 1, 1)).to(device)
    bend = random_perlin_noise(count, size, device, most=3) * uniform(0, 3, count, 1, 1).to(device)
    phase = math.pi * periods * (direction.cos() * x + direction.sin() * y)
    return _sharpened(torch.sin(phase + bend), count)


def cells(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """A tiling of 4 to 48 cells around random points, each of a shade of its own."""
    y, x = _coordinates(size, device)
    points = uniform(-1, 1, count, CELLS, 2)
    points[torch.arange(CELLS) >= torch.randint(4, CELLS + 1, (count, 1))] = 9.0  # far away: not used
    points = points.to(device)
    places = torch.stack([y.expand(size), x.expand(size)], dim=-1).view(1, -1, 2)
    nearest = torch.cdist(places.expand(count, -1, -1), points).argmin(dim=2)  # (count, H * W)
    return torch.rand(count, CELLS).to(device).gather(1, nearest).view(count, *size)


def plain(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """One colour that slowly passes into another."""
    coarse = uniform(0, 1, count, 1, 1, 1) + uniform(-0.3, 0.3, count, 1, 3, 3)
    return F.interpolate(coarse.to(device), size, mode="bilinear", align_corners=True)[:, 0].clamp(0, 1)


KINDS = (clouds, stripes, cells, plain)


def _coordinates(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """(H, 1) and (1, W) from -1 to 1."""
    return torch.linspace(-1, 1, size[0], device=device)[:, None], torch.linspace(-1, 1, size[1], device=device)[None, :]


def _sharpened(noise: Tensor, count: int) -> Tensor:
    """Noise about 0 -> (0, 1), between soft and nearly black and white."""
    return torch.sigmoid(noise * uniform(1, 12, count, 1, 1).to(noise.device))
