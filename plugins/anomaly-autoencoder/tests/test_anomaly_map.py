"""From reconstructions to maps and scores."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from anomaly_autoencoder.anomaly_map import ReconstructionError
from anomaly_autoencoder.functional import ssim_map


@pytest.mark.parametrize(("error", "value"), [("absolute", 0.1), ("squared", 0.05 / 3)])
def test_mean_over_channels(error: str, value: float) -> None:
    images = torch.full((1, 3, 16, 20), 0.5)
    other = images.clone()
    other[:, 0, 4:8] -= 0.1
    other[:, 1, 4:8] += 0.2
    scores, maps = ReconstructionError(error, 1.0, 0.0, sigma=0)(other, images)  # type: ignore[arg-type]
    expected = torch.zeros(1, 1, 16, 20)
    expected[:, :, 4:8] = value
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(scores, expected.amax(dim=(1, 2, 3)))


def test_weights_smoothing_and_score(images: Tensor) -> None:
    other = (images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    scores, maps = ReconstructionError("absolute", 2.0, 0.5, sigma=3, image_score="mean")(other, images)
    raw = 2 * (other - images).abs().mean(dim=1) + 0.5 * (1 - ssim_map(other, images)[:, 0])
    expected = torch.from_numpy(gaussian_filter(raw.numpy(), (0, 3, 3)))
    torch.testing.assert_close(maps[:, 0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, expected.mean(dim=(1, 2)), rtol=1e-4, atol=0)
    assert torch.equal(ReconstructionError("absolute", 2.0, 0.5, sigma=3)(other, images)[0], maps.amax(dim=(1, 2, 3)))


def test_identical_images_are_normal_everywhere(images: Tensor) -> None:
    scores, maps = ReconstructionError()(images, images)
    torch.testing.assert_close(maps, torch.zeros(6, 1, 48, 64), rtol=0, atol=1e-4)
    assert bool((scores < 1e-4).all())
