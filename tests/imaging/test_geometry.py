"""The geometry of a model's input: there, and back to the image's own pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from anomaly_core import InputSpec, read_image
from anomaly_core.imaging.roi import FILL

SPECS = [
    InputSpec((32, 32)),
    InputSpec((40, 24)),
    InputSpec((32, 32), center_crop=(24, 20)),
    InputSpec((32, 32), "keep"),
    InputSpec((32, 32), "keep", center_crop=(28, 28)),
    InputSpec((32, 32), "pad"),
    InputSpec((32, 48), "pad", center_crop=(20, 40)),
]


def test_a_stretched_map_is_what_torch_interpolates() -> None:
    small = torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(0))
    for width, height in ((90, 70), (28, 28), (17, 40)):
        wanted = F.interpolate(small[None], (height, width), mode="bilinear", align_corners=False)[0]
        assert torch.allclose(InputSpec((28, 28)).native_map(small, width, height), wanted, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("size", [(120, 90), (90, 120), (64, 64)])
def test_what_the_network_sees_comes_back_to_its_place(spec: InputSpec, size: tuple[int, int]) -> None:
    """Two ramps tell where each pixel was; they go through the image's geometry and back."""
    width, height = size
    left, top, right, bottom = spec.native_region(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    for axis in (0, 1):
        ramp = np.broadcast_to(np.linspace(0, 250, size[axis]), (height, width) if axis == 0 else (width, height))
        ramp = ramp if axis == 0 else ramp.T
        picture = Image.fromarray(np.repeat(ramp[..., None], 3, axis=2).round().astype(np.uint8))
        back = spec.native_map(spec.image(picture)[:1] * 255, width, height)[0].numpy()
        assert back.shape == (bottom - top, right - left)
        inside = np.s_[6:-6, 6:-6]  # the border has nothing beyond it to blend with
        assert np.abs(back - ramp[top:bottom, left:right])[inside].max() < 250 / size[axis] * 1.2


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("width", "height"), [(121, 90), (90, 121), (64, 64), (17, 40)])
@pytest.mark.parametrize("coarser", [1, 4])
def test_places_of_a_map_in_the_image_are_those_of_the_native_map(
    spec: InputSpec, width: int, height: int, coarser: int
) -> None:
    h, w = (side // coarser for side in spec.output_size)
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    left, top, right, bottom = spec.native_region(width, height)
    for axis, (places, low, high) in enumerate(((x, left, right), (y, top, bottom))):
        scale, offset = spec.native_axes(width, height, (h, w))[axis]
        back = spec.native_map(places[None], width, height)[0].double()
        back = (back[back.shape[0] // 2] if axis == 0 else back[:, back.shape[1] // 2]) * scale + offset
        wanted = torch.arange(low, high) + 0.5
        inner = (wanted > 0.5 * scale + offset) & (wanted < (places.max() * scale + offset))
        assert inner.sum() > 3 and torch.allclose(back[inner], wanted[inner].double(), atol=1e-3)


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
@pytest.mark.parametrize("size", [(61, 90), (90, 61), (33, 33)])
def test_a_grey_image_is_placed_the_same_before_it_becomes_rgb(tmp_path: Path, resize: Any, size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    path = tmp_path / "grey.png"
    Image.fromarray(values).save(path)
    spec = InputSpec((40, 48), resize, (32, 32))
    grey = read_image(path, grey=True)
    assert (grey.mode, read_image(path).mode) == ("L", "RGB")
    np.testing.assert_array_equal(spec.array(grey), spec.array(read_image(path)))
    given = spec.image(read_image(path)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(spec.array(grey), (given * 255).round().astype(np.uint8))


@pytest.mark.parametrize("resize", ["keep", "pad"])
def test_a_whole_spec_loses_nothing_of_the_image(resize: str) -> None:
    cropping = InputSpec((64, 64), resize, center_crop=(48, 40))  # type: ignore[arg-type]
    assert cropping.whole == InputSpec((48, 40), "pad")
    assert cropping.whole.output_size == cropping.output_size


def test_the_border_of_pad_is_grey_and_no_defect() -> None:
    spec = InputSpec((32, 32), "pad")
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    placed = spec.array(Image.fromarray(image))
    assert (placed[:8] == FILL).all() and (placed[24:] == FILL).all() and not (placed[8:24] == FILL).all(axis=(1, 2)).any()
    grey = Image.fromarray(image[..., 0])
    assert (spec.array(grey)[:8] == FILL).all()
    mask = spec.mask(Image.new("L", (40, 20), 255))[0]
    assert not mask[:8].any() and not mask[24:].any() and mask[8:24].all()
