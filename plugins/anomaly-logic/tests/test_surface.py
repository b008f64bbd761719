"""Surface against scikit-learn's PCA, also with each image left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from anomaly_logic.visual_words.surface import Surface

VARIANCE = 0.8


def features(images: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, 7, 4, 5, generator=generator) * torch.arange(1.0, 8)[:, None, None] + 2


def rows_of(maps: Tensor) -> np.ndarray:
    return maps.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()


def fitted(maps: Tensor) -> Surface:
    surface, rows = Surface(7, VARIANCE), torch.from_numpy(rows_of(maps))
    surface.fit(len(rows), rows.sum(dim=0), rows.T @ rows)
    return surface


def residuals(normal: np.ndarray, rows: np.ndarray) -> np.ndarray:
    pca = PCA(VARIANCE, svd_solver="full").fit(normal)
    return np.linalg.norm(rows - pca.inverse_transform(pca.transform(rows)), axis=1)


def test_residuals_are_those_of_pca() -> None:
    normal, others = features(), features(2, seed=1)
    surface = fitted(normal)
    assert 1 < len(surface.axes) < 7
    expected = residuals(rows_of(normal), rows_of(others))
    np.testing.assert_allclose(surface(others).flatten().numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("images", [2, 6])
def test_an_image_is_judged_by_the_others(images: int) -> None:
    normal = features(images)
    without = fitted(normal).without(normal)
    for number in range(images):
        others = torch.cat([normal[:number], normal[number + 1 :]])
        expected = residuals(rows_of(others), rows_of(normal[number : number + 1]))
        np.testing.assert_allclose(without[number].flatten().numpy(), expected, rtol=1e-3)
