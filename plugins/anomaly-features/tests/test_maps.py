"""The maps' shared tail against scipy and torch's own interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomaly_features import gaussian_smooth, upsample, upsample_smooth


@pytest.mark.parametrize("sigma", [0.5, 1.7, 4.0])
@pytest.mark.parametrize("shape", [(40, 40), (33, 50), (7, 5)], ids=str)  # the last is smaller than sigma 4's radius of 16
@pytest.mark.parametrize("products", [True, False])
def test_gaussian_is_scipys(shape: tuple[int, int], sigma: float, products: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomaly_features.maps.SIDE", 1024 if products else 0)
    maps = np.random.default_rng(0).random((3, 1, *shape))
    expected = np.stack([gaussian_filter(item[0], sigma) for item in maps])[:, None]
    smoothed = gaussian_smooth(torch.from_numpy(maps), sigma).numpy()
    np.testing.assert_allclose(smoothed, expected, rtol=1e-10)
    single = gaussian_smooth(torch.from_numpy(maps).float(), sigma).numpy()
    np.testing.assert_allclose(single, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("before", "size", "sigma"), [((28, 28), (224, 224), 4.0), ((7, 9), (40, 31), 1.5), ((5, 5), (8, 9), 0)]
)
@pytest.mark.parametrize("products", [True, False])
def test_both_at_once_are_one_after_the_other(
    before: tuple[int, int], size: tuple[int, int], sigma: float, products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = torch.rand(3, 1, *before, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = gaussian_smooth(upsample(maps, size), sigma)
    monkeypatch.setattr("anomaly_features.maps.SIDE", 1024 if products else 0)
    torch.testing.assert_close(upsample_smooth(maps, size, sigma), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(upsample_smooth(maps.float(), size, sigma), expected.float(), rtol=1e-5, atol=1e-6)


def test_no_sigma_changes_nothing() -> None:
    maps = torch.rand(1, 1, 4, 4)
    assert gaussian_smooth(maps, 0) is maps


def test_constant_maps_stay_constant() -> None:
    assert torch.allclose(gaussian_smooth(torch.full((1, 1, 9, 13), 3.0), 4.0), torch.tensor(3.0))


def test_upsample_keeps_pixel_centres() -> None:
    """Bilinear with half-pixel centres: a 2x enlargement of a ramp is the ramp at quarter positions."""
    ramp = torch.arange(4.0).view(1, 1, 1, 4)
    assert torch.allclose(upsample(ramp, (1, 8)).flatten(), torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))
