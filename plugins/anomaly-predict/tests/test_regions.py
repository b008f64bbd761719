"""Regions of maps against counting the pixels of the interpolated map, and what a place in the image comes back as."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from anomaly_core import Calibration, DataConfig, DataError, ImageReader, InputSpec, Prediction
from anomaly_predict import Region, only_map, regions_of

CALIBRATION = Calibration(
    1.0, 0.01, 3, "3 held-out normal images", map_low=0.0, map_threshold=1.0, scores=(0.1, 0.2, 0.3), map_maxima=(0.5, 1.0, 2.0)
)
SPECS = [
    InputSpec((64, 64)),
    InputSpec((48, 80)),
    InputSpec((64, 64), center_crop=(40, 48)),
    InputSpec((64, 64), "keep"),
    InputSpec((64, 64), "keep", center_crop=(56, 48)),
    InputSpec((64, 64), "pad"),
    InputSpec((64, 96), "pad", center_crop=(50, 80)),
]
SIZES = [(121, 90), (90, 121), (64, 64), (333, 257), (31, 43)]  # width, height


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A smooth map (1, h, w), a few blobs of which exceed 1."""
    coarse = torch.randn(1, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0] * 1.2


def found(anomaly_map: torch.Tensor | np.ndarray, size: tuple[int, int], spec: InputSpec | None = None) -> tuple[Region, ...]:
    regions = regions_of(anomaly_map, CALIBRATION, size, spec)
    assert regions is not None
    return regions


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_blob_in_the_image_comes_back_within_a_cell(spec: InputSpec, width: int, height: int) -> None:
    left, top, right, bottom = (
        round(part * side) for part, side in zip((0.4, 0.45, 0.6, 0.7), (width, height) * 2, strict=True)
    )
    picture = Image.new("RGB", (width, height))
    ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), fill="white")
    (region,) = found(spec.image(picture)[:1] * 2, (height, width), spec)
    (across, _), (down, _) = spec.native_axes(width, height, spec.output_size)
    errors = np.abs(np.subtract(region.box, (left, top, right, bottom)))
    assert (errors <= np.ceil([across, down, across, down])).all()
    assert region.area == pytest.approx((right - left) * (bottom - top), rel=0.15)
    assert left <= region.peak_at[0] < right and top <= region.peak_at[1] < bottom
    cells = np.reshape(region.map_box, (2, 2))
    assert (cells[1] > cells[0]).all() and (cells[1] <= spec.output_size[::-1]).all()


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("width", "height"), SIZES[:4])
@pytest.mark.parametrize("seed", range(2))
def test_areas_boxes_and_outlines_are_those_of_the_native_map(spec: InputSpec, width: int, height: int, seed: int) -> None:
    anomaly_map = noise(*spec.output_size, seed)
    left, top, right, bottom = spec.native_region(width, height)
    above = np.zeros((height, width), dtype=bool)
    above[top:bottom, left:right] = spec.native_map(anomaly_map, width, height)[0].numpy() > 1
    regions = found(anomaly_map, (height, width), spec)
    assert sum(region.area for region in regions) == pytest.approx(above.sum(), rel=0.04, abs=8)
    drawn = Image.new("1", (width * 4, height * 4))
    for region in regions:
        x0, y0, x1, y1 = region.box
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert all(x0 <= x <= x1 and y0 <= y <= y1 for x, y in region.polygon)
        ImageDraw.Draw(drawn).polygon([(4 * x - 0.5, 4 * y - 0.5) for x, y in region.polygon], fill=1)
        x, y = region.peak_at
        assert x0 <= x < x1 and y0 <= y < y1
    covered = np.asarray(drawn).reshape(height, 4, width, 4).mean(axis=(1, 3)) > 0.5
    inner = np.s_[top + 1 : bottom - 1, left + 1 : right - 1]  # a crop ends within a pixel
    assert (covered != above)[inner].sum() < 0.04 * above.sum() + 16


def test_the_numbers_of_a_small_map() -> None:
    anomaly_map = np.zeros((1, 8, 8), dtype=np.float32)
    anomaly_map[0, 2:4, 3:6] = 1.8
    anomaly_map[0, 3, 5] = 2
    anomaly_map[0, 7, 7] = 1.0  # at the threshold is not above it
    anomaly_map[0, 6, 1] = 1.5
    first, second = found(anomaly_map, (8, 8))
    assert (first.box, first.map_box, first.peak, first.peak_at) == ((3, 2, 6, 4), (3, 2, 6, 4), 2.0, (5, 3))
    assert first.area == 6
    assert (second.box, second.peak, second.peak_at) == ((1, 6, 2, 7), 1.5, (1, 6))
    assert second.area == 1 and len(second.polygon) == 4
    # one of three normal images has 1.5 somewhere, and one has 2; the image itself counts too
    assert (first.p_value, second.p_value) == (0.5, 0.5)
    assert CALIBRATION.map_p_value(2.1) == 0.25
    (large,) = regions_of(anomaly_map, CALIBRATION, (8, 8), least_area=2.0, mm_per_px=0.5) or ()
    assert large.area_mm2 == pytest.approx(large.area / 4) and large.box == first.box
    assert regions_of(anomaly_map, CALIBRATION, (8, 8), least_area=50.0) == ()
    reader = ImageReader.from_config(DataConfig(roi="100,10,108,18"))
    moved = regions_of(anomaly_map, CALIBRATION, (40, 200), InputSpec((8, 8)), reader=reader) or ()
    assert moved[0].box == (103, 12, 106, 14) and moved[0].peak_at == (105, 13) and min(moved[0].polygon)[0] >= 103


def test_what_is_ignored_is_in_no_region() -> None:
    anomaly_map = np.zeros((1, 20, 30), dtype=np.float32)
    anomaly_map[0, 4:8, 4:20] = 2
    reader = ImageReader.from_config(DataConfig(ignore="0,0,10,20"))
    (region,) = regions_of(anomaly_map, CALIBRATION, (20, 30), reader=reader) or ()
    assert region.box == (10, 4, 20, 8) and region.area == 40
    (region,) = regions_of(anomaly_map, CALIBRATION, (40, 60), InputSpec((20, 30)), reader=reader) or ()
    assert region.box[:2] >= (9, 7) and region.box[2:] <= (41, 17)  # in an image of twice the size, its left sixth
    inside = ImageReader.from_config(DataConfig(roi="100,50,130,70", ignore="100,50,110,70"))
    (region,) = regions_of(anomaly_map, CALIBRATION, (200, 300), reader=inside) or ()
    assert region.box == (110, 54, 120, 58)
    with pytest.raises(DataError):
        regions_of(anomaly_map, CALIBRATION, (60, 300), reader=inside)


def test_a_hole_is_no_area_and_its_island_is_a_region() -> None:
    ring = np.zeros((1, 40, 40), dtype=np.float32)
    ring[0, 5:35, 5:35] = 2
    ring[0, 10:30, 10:30] = 0
    ring[0, 18:22, 18:22] = 4
    island, around = found(ring, (40, 40))
    assert island.area == 16 and island.box == (18, 18, 22, 22)
    assert around.area == 900 - 400 and around.box == (5, 5, 35, 35)
    assert around.peak == 2


def test_none_found_and_cannot_say_are_not_the_same() -> None:
    nothing = np.zeros((1, 4, 4), dtype=np.float32)
    assert regions_of(nothing, CALIBRATION, (4, 4)) == ()
    assert regions_of(nothing, replace(CALIBRATION, map_threshold=None), (4, 4)) is None
    assert regions_of(None, CALIBRATION, (4, 4)) is None
    (region,) = regions_of(nothing + 2, replace(CALIBRATION, map_maxima=()), (4, 4)) or ()
    assert region.p_value is None and region.area == 16 and region.box == (0, 0, 4, 4)
    assert only_map(Prediction(np.zeros(1))) is None
    with pytest.raises(DataError, match="one image, not of 2"):
        only_map(Prediction(np.zeros(2), np.zeros((2, 1, 4, 4))))
    with pytest.raises(DataError, match="one map"):
        regions_of(np.zeros((2, 4, 4)), CALIBRATION, (4, 4))


def test_what_is_not_finite_and_what_lies_in_the_padding_are_in_no_region() -> None:
    padded = np.full((1, 10, 12), np.nan, dtype=np.float32)
    padded[0, :6, :8] = 0
    padded[0, 5, 7] = 3  # at the corner of the image
    (region,) = found(padded, (6, 8))
    assert region.box == (7, 5, 8, 6)
    assert found(padded, (10, 12))[0].peak == 3
    spec = InputSpec((32, 32), "pad")
    border = torch.zeros(1, 32, 32)
    border[0, 2:5, 10:20] = 5  # above the image, which takes the rows 8 to 24
    assert found(border, (50, 100), spec) == ()
    border[0, 6:12] = 5
    (region,) = found(border, (50, 100), spec)
    assert region.box[:3] == (0, 0, 100) and region.area == pytest.approx(100 * 4 * 50 / 16, rel=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_noise_gives_the_regions_that_scipy_labels(seed: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    anomaly_map = np.random.default_rng(seed).normal(size=(1, 60, 50)).astype(np.float32)
    above = anomaly_map[0] > 1
    labels, count = ndimage.label(above, np.ones((3, 3)))
    regions = found(anomaly_map, (60, 50))
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    areas, peaks = (
        f(array, labels, range(1, count + 1)) for f, array in ((ndimage.sum, above), (ndimage.maximum, anomaly_map[0]))
    )
    wanted = sorted(zip(boxes, areas.tolist(), peaks.tolist(), strict=True), key=lambda one: -one[2])
    assert [(region.box, region.area, region.peak) for region in regions] == wanted
    assert all(region.map_box == region.box for region in regions)
    # interpolated, cells that share a side are one region; of those that share a corner only some are
    interpolated = found(anomaly_map, (60, 50), InputSpec((60, 50)))
    assert count <= len(interpolated) <= ndimage.label(above)[1] and all(region.area >= 0 for region in interpolated)


def test_a_map_of_noise_gives_the_thousand_highest() -> None:
    anomaly_map = np.random.default_rng(0).normal(size=(1, 200, 200)).astype(np.float32)
    regions = found(anomaly_map, (200, 200))
    assert len(regions) == 1000 and regions[0].peak == float(anomaly_map.max())
