"""PSNR, SSIM and LPIPS against the reference, other implementations and closed forms."""

from __future__ import annotations

import pytest
import pytorch_msssim
import torch
from torch import Tensor

from anomaly_autoencoder.functional import WINDOW, psnr, ssim, ssim_map


def test_golden(golden: dict[str, Tensor]) -> None:
    x, y = golden["ssim_x"], golden["ssim_y"]
    torch.testing.assert_close(psnr(x, y).double().mean(), golden["psnr"], rtol=1e-5, atol=0)
    torch.testing.assert_close(ssim(x, y).double().mean(), golden["ssim"], rtol=1e-5, atol=0)


def test_psnr_is_a_value_an_image() -> None:
    black = torch.zeros(3, 3, 4, 5)
    other = torch.stack([black[0] + 1, black[1] + 0.1, black[2]])
    torch.testing.assert_close(psnr(other, black), torch.tensor([0.0, 20.0, torch.inf]))


def test_the_map_holds_what_the_value_is_the_mean_of(golden: dict[str, Tensor]) -> None:
    x, y = golden["ssim_x"][..., :60], golden["ssim_y"][..., :60]
    maps = ssim_map(x, y)
    assert maps.shape == (len(x), 1, 96, 60)
    whole = maps[..., WINDOW // 2 : -(WINDOW // 2), WINDOW // 2 : -(WINDOW // 2)]
    reference = pytorch_msssim.ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(whole.mean(dim=(1, 2, 3)), reference, rtol=1e-5, atol=1e-6)


def test_the_map_of_identical_images_is_1_up_to_the_border(images: Tensor) -> None:
    torch.testing.assert_close(ssim_map(images, images), torch.ones(6, 1, 48, 64), rtol=0, atol=1e-4)


def test_the_map_is_low_where_they_differ(images: Tensor) -> None:
    odd = images.clone()
    odd[:, :, 20:28, 30:40] = 1 - odd[:, :, 20:28, 30:40]
    maps = ssim_map(images, odd)
    assert (maps[..., 20:28, 30:40].mean(dim=(1, 2, 3)) < 0.8).all()
    torch.testing.assert_close(maps[..., :14, :], torch.ones_like(maps[..., :14, :]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shift", [-0.2, 0.3])
def test_ssim_needs_the_range_of_1(images: Tensor, shift: float) -> None:
    """With pytorch_msssim's own range of 255, everything in [0, 1] would look alike."""
    brighter = images + shift
    assert (ssim(images, brighter) < 0.95).all()
