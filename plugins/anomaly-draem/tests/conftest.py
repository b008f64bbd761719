"""The original's inputs and outputs, and small images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def draem() -> dict[str, Tensor]:
    """The official code's weights, outputs and losses at base width 4."""
    with np.load(Path(__file__).parent / "golden" / "draem.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}


@pytest.fixture(scope="session")
def images() -> Tensor:
    """Smooth colours with noise, not square: (6, 3, 64, 96)."""
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(6, 3, 1, 1, generator=generator) * 0.6 + 0.2
    return (base + 0.05 * torch.randn(6, 3, 64, 96, generator=generator)).clamp(0, 1)
