"""Arrangement against scikit-learn's Ledoit-Wolf covariance and Gaussians that were fitted anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage
from torch import Tensor

from anomaly_logic.visual_words.arrangement import Arrangement


def random_shares(images: int, seed: int = 0) -> Tensor:
    """(images, 5, 6, 9): like those of words, 1 in all at each cell."""
    return (2 * torch.randn(images, 5, 6, 9, generator=torch.Generator().manual_seed(seed))).softmax(dim=1)


def fitted(shares: Tensor, regions: int) -> Arrangement:
    arrangement = Arrangement(regions)
    arrangement.fit(arrangement.counted(shares))
    return arrangement


def counts_of(shares: Tensor, regions: int) -> np.ndarray:
    """Means over regions, by slices."""
    height, width = 6 // regions, 9 // regions
    blocks = [
        shares[:, :, height * i : height * (i + 1), width * j : width * (j + 1)].mean(dim=(2, 3))
        for i in range(regions)
        for j in range(regions)
    ]
    return torch.stack(blocks, dim=2).flatten(1).double().numpy()


@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("images", [8, 40], ids=["fewer images than counts", "more"])
def test_distances_are_mahalanobis_under_ledoit_and_wolf(regions: int, images: int) -> None:
    normal, others = random_shares(images), random_shares(4, seed=1)
    arrangement = fitted(normal, regions)
    counts = counts_of(normal, regions)
    np.testing.assert_allclose(arrangement.counted(normal).numpy(), counts, atol=1e-6)
    reference = LedoitWolf().fit(counts).mahalanobis(counts_of(others, regions))
    distances, parts = arrangement(others - normal.mean(dim=0))
    np.testing.assert_allclose(distances.numpy(), reference, rtol=1e-3)
    np.testing.assert_allclose(parts.sum(dim=(1, 2)).numpy(), reference, rtol=1e-3)


def test_regions_that_do_not_divide_the_cells_share_them() -> None:
    shares = random_shares(1)
    counts = Arrangement(2).counted(shares).reshape(5, 4)
    left = (shares[0, :, :3, :4].sum(dim=(1, 2)) + shares[0, :, :3, 4].sum(dim=1) / 2) / 13.5
    np.testing.assert_allclose(counts[:, 0].numpy(), left.numpy(), rtol=1e-5)
    np.testing.assert_allclose(counts.mean(dim=1).numpy(), shares[0].mean(dim=(1, 2)).numpy(), rtol=1e-5)


@pytest.mark.parametrize("images", [5, 40])
def test_an_image_is_judged_without_itself(images: int) -> None:
    """The definition: mean and covariance of the others, shrunk as much and towards the same."""
    shares = random_shares(images)
    arrangement = fitted(shares, 3)
    counts = counts_of(shares, 3)
    shrinkage = ledoit_wolf_shrinkage(counts)
    target = counts.var(axis=0).mean()
    expected = []
    for number in range(images):
        others = np.delete(counts, number, axis=0)
        covariance = (1 - shrinkage) * np.cov(others.T, bias=True) + shrinkage * target * np.eye(45)
        deviation = counts[number] - others.mean(axis=0)
        expected.append(deviation @ np.linalg.solve(covariance, deviation))
    without = arrangement.distances_without(arrangement.counted(shares))
    np.testing.assert_allclose(without.numpy(), expected, rtol=5e-3)
    assert bool((without > arrangement(shares - shares.mean(dim=0))[0]).all())


def test_a_word_that_is_missing_shows_where_it_usually_is() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.zeros(30, 2, 6, 9)
    normal[:, 0] = 1
    for image in normal:  # three of the second word: two anywhere at the left, one always in the same corner
        for place in torch.randperm(18, generator=generator)[:2].tolist():
            image[:, place // 3, place % 3] = torch.tensor([0.0, 1.0])
        image[:, 5, 8] = torch.tensor([0.0, 1.0])
    normal += 0.01 * torch.randn(normal.shape, generator=generator)
    arrangement = fitted(normal, 1)
    missing = normal[:1].clone()
    missing[0, :, 5, 8] = torch.tensor([1.0, 0.0])
    distances, parts = arrangement(missing - normal.mean(dim=0))
    assert float(distances) > 4 * float(arrangement.distances_without(arrangement.counted(normal)).max())
    assert int(parts[0].argmax()) == 5 * 9 + 8
    surplus = normal[:1].clone()
    surplus[0, :, 2, 6] = torch.tensor([0.0, 1.0])
    assert int(arrangement(surplus - normal.mean(dim=0))[1][0].argmax()) == 2 * 9 + 6


def test_images_that_are_all_alike() -> None:
    alike = random_shares(1).expand(6, -1, -1, -1)
    assert bool(fitted(alike, 1)(random_shares(2, seed=1) - alike[:1])[0].isfinite().all())
