"""The metrics as the core feeds them: batch by batch, with predictions that may lack a reconstruction."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from lpips import normalize_tensor
from torch import Tensor
from torch.nn import functional as F

from anomaly_autoencoder import functional
from anomaly_autoencoder.metrics import BLOCK, LPIPS, PSNR, SSIM
from anomaly_autoencoder.perceptual import perceptual_network
from anomaly_core import BaseMetric, Batch, Prediction, Sample, UndefinedMetric, registry
from anomaly_features import Backbones


def feed(metric: BaseMetric, images: Tensor, reconstruction: Tensor | None) -> None:
    count = len(images)
    batch = Batch(images, torch.ones(count), None, torch.ones(count, dtype=torch.bool), [Sample(Path("x"))] * count)
    metric.update(batch, Prediction(torch.zeros(count), None, reconstruction))


@pytest.fixture
def reconstruction(images: Tensor) -> Tensor:
    """The worse, the later the image: a mean over unequal batches must weigh images alike."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    return (images + noise * torch.linspace(0.01, 0.2, 6).view(6, 1, 1, 1)).clamp(0, 1)


@pytest.mark.parametrize(("kind", "function"), [(PSNR, functional.psnr), (SSIM, functional.ssim)])
def test_mean_over_all_images_of_unequal_batches(
    images: Tensor, reconstruction: Tensor, kind: type[BaseMetric], function: object
) -> None:
    metric = kind()
    for part in (slice(0, 4), slice(4, 5), slice(5, 6)):
        feed(metric, images[part], reconstruction[part])
    assert metric.compute() == pytest.approx(float(function(reconstruction, images).mean()), rel=1e-5)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["psnr", "ssim", "lpips"])
def test_without_a_reconstruction_there_is_no_value(images: Tensor, name: str) -> None:
    metric = registry.metrics[name].build(None)
    feed(metric, images, None)
    with pytest.raises(UndefinedMetric, match="the method reconstructs nothing"):
        metric.compute()


def test_specs() -> None:
    specs = {name: registry.metrics[name].spec for name in ("psnr", "ssim", "lpips")}
    assert {spec.level for spec in specs.values()} == {"reconstruction"}
    assert [spec.default for spec in specs.values()] == [True, True, False]
    assert [spec.higher_is_better for spec in specs.values()] == [True, True, False]


def test_identical_images_have_no_finite_psnr(images: Tensor, reconstruction: Tensor) -> None:
    metric = PSNR()
    feed(metric, images, torch.cat([images[:2], reconstruction[2:]]))
    with pytest.raises(UndefinedMetric, match="2 of 6 images are reconstructed exactly"):
        metric.compute()
    same = SSIM()
    feed(same, images, images)
    assert same.compute() == pytest.approx(1)


@pytest.mark.parametrize(("kind", "side"), [(SSIM, 11), (LPIPS, 16)])
def test_images_may_be_too_small(images: Tensor, kind: type[BaseMetric], side: int) -> None:
    metric = kind()
    small = images[..., : side - 1]
    feed(metric, small, small)
    with pytest.raises(UndefinedMetric, match=f"48x{side - 1} are too small: .* needs {side} pixels"):
        metric.compute()


def test_the_smallest_image_has_an_ssim(images: Tensor) -> None:
    metric = SSIM()
    feed(metric, images[..., :11, :11], images[..., :11, :11])
    assert metric.compute() == pytest.approx(1)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Backbones:
    """A folder with a made VGG16: random convolutions; its classifier is one number, repeated."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in timm.create_model("vgg16.tv_in1k").state_dict().items()}
    state = {
        key: 0.05 * torch.randn(shape, generator=generator) if key.startswith("features.") else torch.zeros(1).expand(shape)
        for key, shape in shapes.items()
    }
    folder = tmp_path_factory.mktemp("backbones")
    torch.save(state, folder / "vgg16.tv_in1k.pth")
    return Backbones(folder)


def vgg_features(weights: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """VGG16 by hand: the maps before each pooling and after the last convolution."""
    maps, taken = images, []
    for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        maps = F.max_pool2d(maps, 2) if taken else maps
        for layer in block:
            maps = F.relu(F.conv2d(maps, weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"], padding=1))
        taken.append(maps)
    return taken


def test_lpips_is_the_papers_formula(
    backbones: Backbones, images: Tensor, reconstruction: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, reconstruction = images[::2, :, :32, :40], reconstruction[::2, :, :32, :40]
    network = perceptual_network(backbones)
    assert not any(value.is_meta or value.requires_grad for value in network.state_dict(keep_vars=True).values())
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    weights = backbones.load("vgg16.tv_in1k")
    pairs = [((2 * x - 1) - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for x in (reconstruction, images)]
    expected = torch.zeros(3)
    linear = dict(network.named_parameters())
    for level, (x, y) in enumerate(zip(*(vgg_features(weights, pair) for pair in pairs), strict=True)):
        difference = (normalize_tensor(x) - normalize_tensor(y)).square()
        expected += F.conv2d(difference, linear[f"lin{level}.model.1.weight"]).mean(dim=(1, 2, 3))
    assert (expected > 0.001).all()
    torch.testing.assert_close(functional.lpips(reconstruction, images, network), expected, rtol=1e-4, atol=1e-6)
    monkeypatch.setenv("ANOMALY_BACKBONES", str(backbones.folder))
    metric = LPIPS()
    feed(metric, images[:1], reconstruction[:1])
    feed(metric, images[1:], reconstruction[1:])
    assert metric.compute() == pytest.approx(float(expected.mean()), rel=1e-4)


def test_lpips_uses_the_papers_linear_weights(backbones: Backbones) -> None:
    network = perceptual_network(backbones)
    sums = [float(linear.model[1].weight.sum()) for linear in network.lins]
    assert sums == pytest.approx([float(getattr(network, f"lin{i}").model[1].weight.sum()) for i in range(5)])
    assert all(bool((linear.model[1].weight >= 0).all()) for linear in network.lins)  # the paper keeps them positive


def test_missing_weights_leave_lpips_undefined(
    images: Tensor, reconstruction: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def offline(name: str, **options: object) -> object:
        asked.append(name)
        raise OSError("no network")

    monkeypatch.setattr("anomaly_features.backbones.timm.create_model", offline)
    monkeypatch.setenv("ANOMALY_BACKBONES", str(tmp_path))
    metric = LPIPS()
    feed(metric, images, reconstruction)
    feed(metric, images, reconstruction)
    with pytest.raises(UndefinedMetric, match=re.escape(str(tmp_path))):
        metric.compute()
    assert len(asked) == 1


@pytest.mark.parametrize("size", [(BLOCK + 10, 2 * BLOCK), (BLOCK, 40)])
def test_large_reconstructions_are_measured_in_blocks(size: tuple[int, int]) -> None:
    """Every pixel in a block, image and reconstruction alike, and no block larger than it may be."""
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    shapes = []

    class Spy(PSNR):
        def measure(self, reconstruction: Tensor, images: Tensor) -> Tensor:
            images[:] = -1  # a view: what was looked at is marked
            shapes.append(tuple(images.shape[-2:]))
            return torch.ones(len(images))

    spy = Spy()
    feed(spy, images, images + 1)
    seen = (images == -1).all(dim=1)
    assert seen.all() and spy.compute() == 1
    assert len(shapes) == -(-size[0] // BLOCK) * -(-size[1] // BLOCK)
    assert all(height <= BLOCK and width <= BLOCK for height, width in shapes)
