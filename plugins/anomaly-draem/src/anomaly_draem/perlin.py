"""Perlin noise, a batch at once: each image has gradients, and numbers of cells, of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def perlin_noise(angles: Tensor, cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient noise that changes over a cell; about 0, seldom beyond -1 and 1.

    Args:
        angles: float (B, M + 1, M + 1), the direction in radians of the gradient at each corner of a cell; of an image with
            fewer than M cells only the first corners are used.
        cells: int64 (B, 2), cells down and across, at most M.
        size: (H, W) in pixels; need not be multiples of the cells.

    Returns:
        float (B, H, W).

    Source: Perlin, "Improving noise", SIGGRAPH 2002; gradients of length 1 and the factor sqrt(2) as in DRAEM's code.
    """
    row, y = _position(cells[:, 0], size[0], angles)  # (B, H)
    column, x = _position(cells[:, 1], size[1], angles)  # (B, W)
    image = torch.arange(len(angles), device=angles.device)[:, None, None]
    y, x = y[:, :, None], x[:, None, :]

    def ramp(down: int, across: int) -> Tensor:
        angle = angles[image, row[:, :, None] + down, column[:, None, :] + across]  # (B, H, W)
        return angle.sin() * (y - down) + angle.cos() * (x - across)

    fade_y, fade_x = _fade(y), _fade(x)
    upper = torch.lerp(ramp(0, 0), ramp(0, 1), fade_x.expand(-1, size[0], -1))
    lower = torch.lerp(ramp(1, 0), ramp(1, 1), fade_x.expand(-1, size[0], -1))
    return math.sqrt(2) * torch.lerp(upper, lower, fade_y.expand(-1, -1, size[1]))


def random_perlin_noise(count: int, size: tuple[int, int], device: torch.device, most: int = 5) -> Tensor:
    """Noise with 2^0 to 2^``most`` cells down and, drawn apart, across.

    Returns:
        float32 (count, H, W) on the device; drawn from torch's global generator of the CPU, so the same on any device.
    """
    cells = 2 ** torch.randint(most + 1, (count, 2))
    angles = 2 * math.pi * torch.rand(count, 2**most + 1, 2**most + 1)
    return perlin_noise(angles.to(device), cells.to(device), size)


def _position(cells: Tensor, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The cell that each pixel lies in, int64 (B, length), and how far in it, float in [0, 1)."""
    pixels = torch.arange(length, device=like.device)
    steps = pixels * cells[:, None]
    return steps // length, (steps % length).to(like.dtype) / length


def _fade(t: Tensor) -> Tensor:
    return t**3 * (t * (t * 6 - 15) + 10)
