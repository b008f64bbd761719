"""The originals' inputs and outputs, and what several tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_core import Batch, Sample


class Golden(dict[str, Tensor]):
    """The numbers of a golden file; words are left out."""

    def __init__(self, name: str) -> None:
        with np.load(Path(__file__).parent / "golden" / name) as arrays:
            super().__init__({key: torch.from_numpy(arrays[key]) for key in arrays if arrays[key].dtype.kind != "U"})

    def state(self, prefix: str) -> dict[str, Tensor]:
        """The state dict under a prefix."""
        return {key.removeprefix(prefix): value.clone() for key, value in self.items() if key.startswith(prefix)}


@pytest.fixture(scope="session")
def rd4ad() -> Golden:
    """RD4AD's features, weights, losses, gradients and maps."""
    return Golden("rd4ad.npz")


@pytest.fixture(scope="session")
def efficientad() -> Golden:
    """EfficientAD's images, weights, losses, quantiles and maps."""
    return Golden("efficientad.npz")


@pytest.fixture(scope="session")
def near() -> Callable[[Tensor, Tensor, float], None]:
    """Two tensors differ by less than so much of the greatest value expected."""

    def compare(actual: Tensor, expected: Tensor, relative: float) -> None:
        assert actual.shape == expected.shape
        scale = float(expected.double().abs().max())
        np.testing.assert_allclose(actual.detach().double(), expected.double(), rtol=0, atol=relative * scale)

    return compare


@pytest.fixture(scope="session")
def batch_of() -> Callable[[Tensor], Batch]:
    """A batch of normal images from (B, 3, H, W)."""

    def batch(images: Tensor) -> Batch:
        count = len(images)
        nothing = torch.zeros(count, dtype=torch.bool)
        return Batch(images, torch.zeros(count, dtype=torch.long), None, nothing, [Sample(Path("x"))] * count)

    return batch
