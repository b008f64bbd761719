"""The originals' inputs and outputs, and PatchCore fitted on a few images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler

Fit = Callable[[Tensor, PatchCoreConfig], PatchCoreModeler]


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


@pytest.fixture(scope="session")
def fitted() -> Fit:
    """Fits PatchCore on (B, 3, H, W) images, two at once."""

    def fit(images: Tensor, config: PatchCoreConfig) -> PatchCoreModeler:
        torch.manual_seed(0)
        modeler = PatchCoreModeler(config).eval()
        with torch.inference_mode():
            for part in images.split(2):
                modeler.collect(part)
            modeler.build()
        return modeler

    return fit
