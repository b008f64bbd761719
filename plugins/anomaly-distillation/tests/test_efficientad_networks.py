"""EfficientAD's networks and functions: shapes, quantiles of many values, changed colours, patches."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import functional as vision

from anomaly_distillation.efficientad.distilling import patch_pooling
from anomaly_distillation.efficientad.model import channel_statistics, hard_loss, quantile, whole_map
from anomaly_distillation.efficientad.networks import SHAPES, Shape, autoencoder, patch_description_network, positions
from anomaly_distillation.efficientad.pictures import luminance, recoloured


def sizes(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        small, medium = (patch_description_network(SHAPES[size], 384) for size in ("S", "M"))
        whole = autoencoder(SHAPES["S"], (256, 256))
    assert [tuple(module.weight.shape) for module in small if hasattr(module, "weight")] == [
        (128, 3, 4, 4),
        (256, 128, 4, 4),
        (256, 256, 3, 3),
        (384, 256, 4, 4),
    ]
    assert [tuple(module.weight.shape) for module in medium if hasattr(module, "weight")] == [
        (256, 3, 4, 4),
        (512, 256, 4, 4),
        (512, 512, 1, 1),
        (512, 512, 3, 3),
        (384, 512, 4, 4),
        (384, 384, 1, 1),
    ]
    assert (sizes(small), sizes(medium), sizes(whole)) == (2694144, 8026624, 1096320)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (100, 131), (256, 256)])
def test_teacher_and_autoencoder_have_the_same_positions(deep: bool, size: tuple[int, int]) -> None:
    shape = Shape(deep, 2, 3, 4)
    images = torch.zeros(1, 3, *size)
    with torch.no_grad():
        described = patch_description_network(shape, 3)(images)
        rebuilt = autoencoder(shape, size)(images)
    assert described.shape == rebuilt.shape == (1, 3, *positions(size))
    if size == (256, 256):
        assert positions(size) == (56, 56)
        with torch.no_grad():
            assert patch_description_network(shape, 3, padded=True)(images).shape == (1, 3, 64, 64)


def test_the_whole_of_an_image_passes_through_one_vector() -> None:
    torch.manual_seed(0)
    network = autoencoder(Shape(False, 2, 3, 4), (64, 96)).eval()
    middle = [module for module in network if isinstance(module, torch.nn.Conv2d)][5]
    seen = []
    middle.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    network(torch.rand(2, 3, 64, 96))
    assert seen == [(2, 4, 1, 1)]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.995, 0.999, 1.0])
@pytest.mark.parametrize("count", [1, 2, 1000, 4097])
def test_quantile_is_torch_s(share: float, count: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(count))
    torch.testing.assert_close(quantile(values, share), torch.quantile(values, share))


def test_quantile_of_more_values_than_older_torch_takes() -> None:
    count = 2**24 + 1
    values = torch.arange(count, dtype=torch.float32).flip(0)
    assert float(quantile(values, 0.9)) == pytest.approx(0.9 * (count - 1), abs=1)


def test_hard_loss_takes_each_image_by_itself() -> None:
    errors = torch.rand(3, 4, 25, 25, generator=torch.Generator().manual_seed(0))
    errors[1] *= 10
    alone = torch.stack([hard_loss(image[None]) for image in errors])
    torch.testing.assert_close(hard_loss(errors), alone.mean())
    assert float(alone[0]) > float(torch.quantile(errors[0], 0.999))
    torch.testing.assert_close(hard_loss(errors, 0), errors.mean())


def test_statistics_are_those_of_all_batches() -> None:
    batches = [torch.randn(count, 4, 3, 3) * 2 + 5 for count in (2, 3)]
    mean, std = channel_statistics(iter(batches), 4)
    whole = torch.cat(batches).transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean.flatten(), whole.mean(dim=1))
    torch.testing.assert_close(std.flatten(), whole.std(dim=1, correction=0))
    assert (channel_statistics([torch.ones(1, 2, 3, 3)], 2)[1] > 0).all()  # a dead channel divides by no zero


def test_borders() -> None:
    maps = torch.full((1, 1, 8, 8), 2.0)
    assert whole_map(maps, (16, 16)).amin() == 0
    assert (whole_map(maps, (32, 48), "edge") == 2).all()
    assert whole_map(maps, (16, 16))[0, 0, 4:12, 4:12].eq(2).all()


def test_recoloured_images_are_torchvision_s() -> None:
    torch.manual_seed(0)
    images = torch.rand(24, 3, 6, 7)
    state = torch.get_rng_state()
    changed = recoloured(images)
    torch.set_rng_state(state)
    factors, kinds = 0.8 + 0.4 * torch.rand(24, 1, 1, 1), torch.randint(3, (24, 1, 1, 1))
    change = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation)
    assert set(kinds.flatten().tolist()) == {0, 1, 2}
    for image, got, factor, kind in zip(images, changed, factors.flatten(), kinds.flatten(), strict=True):
        torch.testing.assert_close(got, change[int(kind)](image, float(factor)))
    torch.testing.assert_close(luminance(images), vision.rgb_to_grayscale(images))


def test_patch_pooling_is_patchcore_s() -> None:
    torch.manual_seed(0)
    fine, coarse = torch.randn(2, 5, 8, 8), torch.randn(2, 7, 4, 4)
    pooled = []
    for maps in (fine, coarse):
        patches = F.unfold(maps, 3, padding=1).transpose(1, 2)  # (B, positions, 9 C)
        pooled.append(F.adaptive_avg_pool1d(patches, 1024).transpose(1, 2).unflatten(2, maps.shape[-2:]))
    pooled[1] = F.interpolate(pooled[1], (8, 8), mode="bilinear", align_corners=False)
    together = torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)  # (B, positions, 2048)
    expected = F.adaptive_avg_pool1d(together, 6).transpose(1, 2).unflatten(2, (8, 8))
    weights = patch_pooling([5, 7], 6)
    results = [F.conv2d(maps, weight, padding=1) for maps, weight in zip((fine, coarse), weights, strict=True)]
    enlarged = F.interpolate(results[1], (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(results[0] + enlarged, expected, rtol=1e-4, atol=1e-5)
