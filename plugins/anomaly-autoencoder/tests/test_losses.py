"""Losses against hand-made values and torch's own distributions."""

from __future__ import annotations

import pytest
import pytorch_msssim
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from anomaly_autoencoder import losses
from anomaly_autoencoder.losses import AELoss, VAELoss


@pytest.fixture
def reconstruction(images: Tensor) -> Tensor:
    return (images + 0.1).requires_grad_()


def test_the_parts_and_their_sum(images: Tensor, reconstruction: Tensor) -> None:
    parts, figures = AELoss(mse_weight=2, l1_weight=3, ssim_weight=0.5)(reconstruction, images)
    similarity = pytorch_msssim.ssim(reconstruction, images, data_range=1.0)
    torch.testing.assert_close(parts["mse_loss"], torch.tensor(0.01))
    torch.testing.assert_close(parts["l1_loss"], torch.tensor(0.1))
    torch.testing.assert_close(parts["ssim_loss"], 1 - similarity)
    torch.testing.assert_close(figures["ssim"], similarity.detach())
    torch.testing.assert_close(figures["psnr"], torch.tensor(20.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(parts["loss"], 2 * 0.01 + 3 * 0.1 + 0.5 * (1 - similarity))
    assert all(value.ndim == 0 for value in (*parts.values(), *figures.values()))
    assert not any(value.requires_grad for value in figures.values()), "figures are only logged"


@pytest.mark.parametrize("part", ["mse", "l1", "ssim"])
def test_a_part_of_weight_0_is_told_and_not_minimised(images: Tensor, reconstruction: Tensor, part: str) -> None:
    weights = {"mse_weight": 0.0, "l1_weight": 0.0, "ssim_weight": 0.0, f"{part}_weight": 1.0}
    parts, figures = AELoss(**weights)(reconstruction, images)
    torch.testing.assert_close(parts["loss"], parts[f"{part}_loss"])
    assert set(parts) == {"loss", "mse_loss", "l1_loss", "ssim_loss"}
    assert set(figures) == {"psnr", "ssim"}
    parts["loss"].backward()
    assert reconstruction.grad is not None
    assert bool((reconstruction.grad != 0).any())


def test_vae_loss(images: Tensor, reconstruction: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 6, 5, 2, 3, generator=generator)
    parts, figures = VAELoss(mse_weight=1, ssim_weight=0)(reconstruction, images, mean, log_variance, beta=0.3)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0, 1)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(losses.kl_divergence(mean, log_variance), expected)
    torch.testing.assert_close(parts["kl_loss"], expected.mean() / (3 * 48 * 64))
    torch.testing.assert_close(parts["loss"], parts["mse_loss"] + 0.3 * parts["kl_loss"])
    assert float(figures["beta"]) == pytest.approx(0.3)
    assert set(figures) == {"psnr", "ssim", "beta"}


def test_computed_in_float32_under_autocast(images: Tensor, reconstruction: Tensor) -> None:
    loss = AELoss(mse_weight=1, l1_weight=1, ssim_weight=1)
    exact = {key: value for group in loss(reconstruction, images) for key, value in group.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = {key: value for group in loss(reconstruction, images) for key, value in group.items()}
    assert {part.dtype for part in mixed.values()} == {torch.float32}
    assert all(torch.equal(mixed[name], exact[name]) for name in exact)
