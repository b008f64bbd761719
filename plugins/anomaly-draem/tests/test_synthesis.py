"""Noise, changes of colour and blending, against plain loops and against Pillow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from anomaly_draem import augment as changes
from anomaly_draem.augment import AUGMENTERS, augment
from anomaly_draem.geometry import rearrange, rotate
from anomaly_draem.perlin import perlin_noise, random_perlin_noise
from anomaly_draem.procedural import KINDS, procedural_textures
from anomaly_draem.synthesis import Synthesis, random_masks

CPU = torch.device("cpu")


def plain_perlin(angles: Tensor, down: int, across: int, height: int, width: int) -> list[list[float]]:
    """One image, pixel by pixel, as the noise is defined."""
    rows = []
    for row in range(height):
        values = []
        for column in range(width):
            y, x = row * down / height, column * across / width
            top, left = math.floor(y), math.floor(x)
            y, x = y - top, x - left
            total = 0.0
            for i in (0, 1):
                for j in (0, 1):
                    angle = float(angles[top + i, left + j])
                    weight_y, weight_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
                    weight = (weight_y if i else 1 - weight_y) * (weight_x if j else 1 - weight_x)
                    total += weight * (math.cos(angle) * (x - j) + math.sin(angle) * (y - i))
            values.append(math.sqrt(2) * total)
        rows.append(values)
    return rows


def test_perlin_noise_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    angles = 2 * math.pi * torch.rand(3, 9, 9, generator=generator, dtype=torch.float64)
    cells = torch.tensor([[1, 4], [8, 2], [3, 8]])
    noise = perlin_noise(angles, cells, (12, 20))
    for image, (down, across) in enumerate(cells.tolist()):
        expected = torch.tensor(plain_perlin(angles[image], down, across, 12, 20), dtype=torch.float64)
        torch.testing.assert_close(noise[image], expected, rtol=1e-6, atol=1e-6)


def test_each_image_has_scales_of_its_own() -> None:
    torch.manual_seed(0)
    noise = random_perlin_noise(200, (64, 96), CPU)
    rough = [(noise.diff(dim=dim).abs().mean(dim=(1, 2)) / noise.abs().mean(dim=(1, 2))) for dim in (1, 2)]
    for direction in rough:
        assert direction.max() > 8 * direction.min()
    assert abs(torch.corrcoef(torch.stack(rough))[0, 1]) < 0.4  # down and across are drawn apart
    assert abs(float(noise.mean())) < 0.05


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_masks(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    masks = random_masks(300, size, CPU)
    assert masks.shape == (300, 1, *size)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    shares = masks.mean(dim=(1, 2, 3))
    assert 0.02 < float(shares.mean()) < 0.1
    assert (shares > 0).float().mean() > 0.85


def test_rotation_keeps_shapes_where_sides_differ() -> None:
    bar = torch.zeros(3, 1, 41, 81)
    bar[:, :, 19:22, 25:56] = 1  # 31 wide, 3 high
    turned = rotate(bar, torch.tensor([0.0, 90.0, 45.0]))
    assert torch.equal(turned[0], bar[0])
    upright = torch.zeros(1, 41, 81)
    upright[:, 5:36, 39:42] = 1
    torch.testing.assert_close(turned[1], upright, rtol=0, atol=1e-3)
    torch.testing.assert_close(turned.sum(dim=(1, 2, 3)), bar.sum(dim=(1, 2, 3)), rtol=0.05, atol=0)
    rows, columns = (turned[2, 0] > 0.5).nonzero().float().unbind(dim=1)
    assert float(rows.max() - rows.min()) == pytest.approx(float(columns.max() - columns.min()), abs=3)


def test_corners_of_a_turned_image_are_black_or_mirrored() -> None:
    white, degrees = torch.ones(1, 3, 40, 60), torch.tensor([45.0])
    assert rotate(white, degrees)[..., 0, 0].max() == 0
    assert rotate(white, degrees, mirror=True).min() == pytest.approx(1)


def test_rearranging_leaves_no_place_empty(images: Tensor) -> None:
    count = len(images)
    moved = rearrange(images, torch.linspace(-180, 180, count), torch.linspace(0.5, 2, count), torch.rand(count, 2) * 2 - 1)
    assert moved.shape == images.shape
    assert (moved.amin(dim=(2, 3)) >= images.amin(dim=(2, 3)) - 1e-5).all()
    assert (moved.amax(dim=(2, 3)) <= images.amax(dim=(2, 3)) + 1e-5).all()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Levels of 8 bits, with few and with many of them: (5, 3, 24, 33)."""
    generator = torch.Generator().manual_seed(1)
    ramp = torch.linspace(0, 1, 33).expand(3, 24, 33)
    noise = torch.rand(3, 3, 24, 33, generator=generator)
    flat = torch.full((3, 24, 33), 0.4)
    pictures = torch.stack([ramp**2, noise[0], noise[1] * 0.3 + 0.2, (noise[2] * 4).floor() / 4, flat])
    return (pictures * 255).round() / 255


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def constant(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Every value that an augmenter draws is this one."""
    monkeypatch.setattr(changes, "uniform", lambda low, high, *shape: torch.full(shape, value))


def test_equalize_is_pillows(pictures: Tensor) -> None:
    for image, ours in zip(pictures, changes.equalize(pictures), strict=True):
        torch.testing.assert_close(ours, tensor(ImageOps.equalize(pillow(image))), rtol=0, atol=1e-6)


def test_autocontrast_stretches_between_the_cut_levels(pictures: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    constant(monkeypatch, 0.0)
    stretched = changes.autocontrast(pictures).clamp(0, 1)
    expected = (pictures - pictures.amin(dim=(1, 2, 3), keepdim=True)) / (
        pictures.amax(dim=(1, 2, 3), keepdim=True) - pictures.amin(dim=(1, 2, 3), keepdim=True)
    )
    torch.testing.assert_close(stretched[:4], expected[:4], rtol=0, atol=1e-5)
    assert torch.equal(stretched[4], pictures[4])  # one level cannot be stretched
    constant(monkeypatch, 0.1)
    cut = changes.autocontrast(pictures[1:2]).clamp(0, 1)
    for end in (0.0, 1.0):
        assert float((cut == end).float().mean()) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_sharpness_is_pillows(pictures: Tensor, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    constant(monkeypatch, factor)
    for image, ours in zip(pictures, changes.sharpness(pictures).clamp(0, 1), strict=True):
        expected = tensor(ImageEnhance.Sharpness(pillow(image)).enhance(factor))
        torch.testing.assert_close(ours, expected, rtol=0, atol=1.6 / 255)


def test_posterize_keeps_high_bits(pictures: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randint", lambda high, shape: torch.full(shape, 5))  # 3 bits are kept
    for image, ours in zip(pictures, changes.posterize(pictures), strict=True):
        torch.testing.assert_close(ours, tensor(ImageOps.posterize(pillow(image), 3)), rtol=0, atol=1e-6)


def test_solarize_inverts_bright_pixels(pictures: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    constant(monkeypatch, 100 / 255)  # below a half: the coin says yes
    for image, ours in zip(pictures, changes.solarize(pictures), strict=True):
        torch.testing.assert_close(ours, tensor(ImageOps.solarize(pillow(image), 100)), rtol=0, atol=1e-6)


def test_hue_there_and_back(pictures: Tensor) -> None:
    import colorsys

    colours = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    hsv = changes.to_hsv(colours)
    for row in range(5):
        for column in range(5):
            expected = colorsys.rgb_to_hsv(*colours[0, :, row, column].tolist())
            assert hsv[0, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)
    for several in (colours, pictures):
        torch.testing.assert_close(changes.to_rgb(changes.to_hsv(several)), several, rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", AUGMENTERS, ids=lambda change: change.__name__)
def test_each_change_is_each_images_own(change: object, pictures: Tensor) -> None:
    torch.manual_seed(0)
    twins = pictures[1:2].expand(16, -1, -1, -1).clone()
    changed = change(twins).clamp(0, 1)  # type: ignore[operator]
    assert changed.shape == twins.shape
    assert changed.dtype == torch.float32
    assert changed.isfinite().all()
    fixed = change in (changes.invert, changes.equalize)
    assert (len(changed.unique(dim=0)) == 1) == fixed
    assert not torch.equal(changed, twins)


def test_three_different_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def marked(number: int) -> object:
        def change(images: Tensor) -> Tensor:
            return images + 2.0**-number * 0.4

        return change

    monkeypatch.setattr(changes, "AUGMENTERS", tuple(marked(number) for number in range(10)))
    torch.manual_seed(0)
    sums = augment(torch.zeros(400, 3, 2, 2))[:, 0, 0, 0] / 0.4 * 2**9
    bits = [[(round(float(value)) >> bit) & 1 for bit in range(10)] for value in sums]
    assert {sum(row) for row in bits} == {3}
    counts = torch.tensor(bits).sum(dim=0)
    assert counts.min() > 80  # 120 are expected of each
    assert counts.max() < 160


@pytest.mark.parametrize("size", [(64, 64), (40, 100)])
def test_procedural_textures(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    made = procedural_textures(20, size, CPU)
    assert made.shape == (20, 3, *size)
    assert made.min() >= 0
    assert made.max() <= 1
    assert len(made.mean(dim=(2, 3)).unique(dim=0)) == 20
    for kind in KINDS:
        pattern = kind(3, size, CPU)
        assert pattern.shape == (3, *size)
        assert pattern.min() >= 0
        assert pattern.max() <= 1


def test_only_masked_pixels_change_and_half_of_the_images(images: Tensor) -> None:
    torch.manual_seed(0)
    many = images.repeat(50, 1, 1, 1)
    augmented, masks = Synthesis()(many)
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    changed = (augmented != many).any(dim=1, keepdim=True)
    assert not (changed & (masks == 0)).any()
    assert changed[masks > 0].float().mean() > 0.95
    assert 0.38 < float((masks.amax(dim=(1, 2, 3)) > 0).float().mean()) < 0.55  # a half, less the empty masks


def test_transparency_lets_the_image_through(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    source = torch.rand_like(images)
    monkeypatch.setattr("anomaly_draem.synthesis.augment", lambda sources: source)
    augmented, masks = Synthesis(probability=1.0, max_transparency=0.8)(images)
    share = (augmented - source) / (images - source)
    for image in range(len(images)):
        shares = share[image][:, masks[image, 0] > 0]
        if shares.numel():
            value = float(shares.median())
            assert 0 <= value <= 0.8
            close = (shares - value).abs() < 0.02
            assert close.float().mean() > 0.9  # one share an image
    assert float(Synthesis(probability=0.0)(images)[1].sum()) == 0


def test_same_seed_same_anomalies_and_nothing_else_is_drawn_from(images: Tensor) -> None:
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(Synthesis()(images))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # type: ignore[index]
    assert not torch.equal(results[0][0], Synthesis()(images)[0])


def test_sources_without_textures_are_other_images_or_procedural(images: Tensor) -> None:
    torch.manual_seed(0)
    marked = torch.arange(len(images)).view(-1, 1, 1, 1).expand_as(images) / 10
    own = Synthesis(self_share=1.0).sources(marked).mean(dim=(1, 2, 3)) * 10
    assert (own.round() != torch.arange(len(images))).all()
    assert torch.allclose(own, own.round(), atol=1e-3)
    assert Synthesis(self_share=1.0)(images[:1])[0].shape == (1, 3, 64, 96)
    assert Synthesis(self_share=0.0).sources(marked).std(dim=(1, 2, 3)).max() > 0.05
