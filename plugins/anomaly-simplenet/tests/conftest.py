"""The original's inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """The official code's features, weights, noise, losses, gradients and maps."""
    with np.load(Path(__file__).parent / "golden" / "supersimplenet.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}
