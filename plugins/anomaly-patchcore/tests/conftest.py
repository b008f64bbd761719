"""The originals' inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


def _load(name: str) -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.fixture(scope="session")
def patchcore() -> dict[str, Tensor]:
    """The official code's embeddings, scores and maps."""
    return _load("patchcore")


@pytest.fixture(scope="session")
def kcenter() -> dict[str, Tensor]:
    """An exact greedy k-center in float64."""
    return _load("kcenter")
