"""Images, batches, and the reference's inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """``ssim_x``, ``ssim_y`` and their ``ssim`` and ``psnr``, by pytorch_msssim."""
    with np.load(Path(__file__).parent / "golden" / "metrics.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in ("ssim_x", "ssim_y", "ssim", "psnr")}


@pytest.fixture
def images() -> Tensor:
    """Six smooth pictures of 48 x 64 that differ in brightness and phase."""
    generator = torch.Generator().manual_seed(0)
    phase = 6 * torch.rand(6, 3, 1, 1, generator=generator)
    rows, columns = torch.linspace(0, 9, 48).view(1, 1, 48, 1), torch.linspace(0, 12, 64).view(1, 1, 1, 64)
    shade = torch.linspace(0.35, 0.6, 6).view(6, 1, 1, 1)
    return shade + 0.15 * torch.sin(rows + phase) * torch.cos(columns + phase)
