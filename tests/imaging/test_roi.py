"""The region of interest: what counts of an image, and how it is described, kept and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anomaly_core import ConfigError, DataConfig, DataError, ImageReader, InputSpec, RegionOfInterest, Sample, screen
from anomaly_core.base.data import SampleDataset, collate
from anomaly_core.config.resolve import validate
from anomaly_core.imaging.roi import FILL

WIDTH, HEIGHT = 40, 30


def reader(**options: Any) -> ImageReader:
    return ImageReader.from_config(validate(DataConfig, options, "data"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Random colours; its mask, beside it, marks a square inside and one outside of the regions below."""
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[:3, :3] = mask[12:15, 16:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "a.png"


def test_a_box_is_cut_out_of_image_and_mask(picture: Path) -> None:
    box = reader(roi="10,5,30,25")
    image = np.asarray(Image.open(picture))[5:25, 10:30]
    np.testing.assert_array_equal(np.asarray(box.read(picture)), image)
    np.testing.assert_array_equal(np.asarray(box.convert(Image.open(picture))), image)
    assert np.asarray(box.mask(picture.with_name("mask.png"))).sum() == 12 * 255
    assert box.size(picture) == (20, 20) and box.examine(picture).size == (HEIGHT, WIDTH)
    assert (box.origin, box.keep(20, 20)) == ((10, 5), None)
    assert box.whole.size(picture) == (HEIGHT, WIDTH)


def test_a_box_is_of_the_upright_image(picture: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.open(picture).save(tmp_path / "turned.png", exif=exif)
    tall = reader(roi=f"0,30,30,{WIDTH}")
    assert tall.read(tmp_path / "turned.png").size == (30, 10)
    assert tall.size(tmp_path / "turned.png") == (10, 30)


def test_a_polygon_keeps_the_pixels_whose_centre_lies_in_it(picture: Path) -> None:
    corners = [(10, 5), (30, 5), (20, 25)]
    region = reader(roi=[number for corner in corners for number in corner])
    keep = region.keep(20, 20)
    assert keep is not None and region.origin == (10, 5)
    fine = Image.new("1", (20 * 21, 20 * 21))  # drawn 21 times as large: the centre of a pixel is a pixel
    ImageDraw.Draw(fine).polygon([(21 * (x - 10) - 0.5, 21 * (y - 5) - 0.5) for x, y in corners], fill=1)
    centres = np.asarray(fine)[10::21, 10::21]
    assert 150 < keep.sum() < 250 and (keep != centres).sum() <= 2, "Pillow draws the outline too"
    pixels, original = np.asarray(region.read(picture)), np.asarray(Image.open(picture))[5:25, 10:30]
    np.testing.assert_array_equal(pixels[keep], original[keep])
    assert (pixels[~keep] == FILL).all()


def test_a_box_and_the_polygon_of_its_corners_are_the_same() -> None:
    assert reader(roi="10,5,30,25") == reader(roi="10,5,30,5,30,25,10,25")


def test_a_mask_image_is_a_region_and_images_must_have_its_size(picture: Path, tmp_path: Path) -> None:
    disc = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(disc).ellipse((8, 4, 28, 24), fill=255)
    disc.save(tmp_path / "roi.png")
    region = reader(roi=tmp_path / "roi.png")
    assert region.read(picture).size == (21, 21)
    np.testing.assert_array_equal(region.keep(21, 21), np.asarray(disc)[4:25, 8:29] > 0)
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(tmp_path / "taller.png")
    with pytest.raises(DataError, match=r"is for images of 40x30 pixels, and '.*taller\.png' has 40x31"):
        region.size(tmp_path / "taller.png")


@pytest.mark.parametrize("grey", [False, True])
def test_what_is_ignored_is_filled_in_images_and_not_defective_in_masks(picture: Path, tmp_path: Path, grey: bool) -> None:
    Image.open(picture).convert("L" if grey else "RGB").save(tmp_path / "b.png")
    region = reader(roi="10,5,30,25", ignore=[[0, 0, 15, 10], [16, 12, 18, 15]])
    pixels = np.asarray(region.read(tmp_path / "b.png", grey=True))
    assert (pixels[:5, :5] == FILL).all() and not (pixels[5:] == FILL).all()
    assert np.asarray(region.mask(picture.with_name("mask.png"))).sum() == 6 * 255
    keep = region.keep(20, 20)
    assert keep is not None and keep.sum() == 400 - 25 - 6
    everywhere = reader(ignore="0,0,15,10;16,12,18,15")
    assert everywhere.read(picture).size == (WIDTH, HEIGHT) and everywhere.origin == (0, 0)
    whole = everywhere.keep(HEIGHT, WIDTH)
    assert whole is not None and whole.sum() == HEIGHT * WIDTH - 150 - 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roi": "10,20,5"}, "data.roi='10,20,5' has 3 numbers"),
        ({"roi": "10,20,5,30"}, "is empty: right and bottom are coordinates"),
        ({"roi": "0,0,0.2,0.2"}, "no pixel's centre lies in it"),
        ({"roi": "0,0,10,10,10,0,0,10"}, "sides cross"),
        ({"roi": "-1,0,10,10"}, "lies outside of any image"),
        ({"roi": "nan,0,10,10"}, "lies outside of any image"),
        ({"roi": "0,0,1e9,1e9"}, "is larger than"),
        ({"roi": "there-is-none.png"}, "is neither numbers nor a file"),
        ({"roi": "0,0,9,9", "ignore": "9,0,12,12"}, "data.ignore='9,0,12,12' lies outside data.roi='0,0,9,9'"),
        ({"roi": "0,0,9,9", "ignore": "0,0,5,9;4,0,9,9"}, "all of the region is ignored"),
    ],
)
def test_what_is_no_region_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reader(**options)


def test_mask_images_that_cannot_be_a_region_are_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "white.png")
    Image.new("L", (8, 9), 255).save(tmp_path / "other.png")
    (tmp_path / "text.png").write_text("no picture")
    for options, message in (
        ({"roi": tmp_path / "black.png"}, "marks no pixel"),
        ({"roi": tmp_path / "text.png"}, "cannot read the mask"),
        ({"roi": tmp_path / "white.png", "ignore": tmp_path / "other.png"}, "are 8x8 and 8x9 pixels"),
        ({"ignore": tmp_path / "white.png"}, "all of the region is ignored"),
    ):
        with pytest.raises(ConfigError, match=message):
            reader(**options)


def test_an_image_without_the_region_follows_the_policy_for_bad_images(picture: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    samples = [Sample(picture, 0), Sample(tmp_path / "small.png", 0)]
    region = reader(roi="10,5,30,25")
    with pytest.raises(DataError, match=r"reaches to x=30, y=25 pixels, and '.*small\.png' has 20x20.*on_bad_image=skip"):
        screen(samples, "error", region)
    assert screen(samples, "skip", region).kept == samples[:1]
    with pytest.raises(DataError, match="the image given has 20x20"):
        region.convert(Image.new("RGB", (20, 20)))
    with pytest.raises(DataError, match="covers all of"):
        reader(ignore="0,0,20,20").read(tmp_path / "small.png")


def test_a_mask_of_another_size_is_found_although_both_have_the_region(picture: Path, tmp_path: Path) -> None:
    Image.new("L", (2 * WIDTH, 2 * HEIGHT), 255).save(tmp_path / "large.png")
    with pytest.raises(DataError, match=r"mask .*large\.png' is 80x60, its image '.*a\.png' 40x30"):
        screen([Sample(picture, 1, tmp_path / "large.png")], "error", reader(roi="10,5,30,25"))


def test_defects_outside_the_region_are_told(picture: Path) -> None:
    sample = Sample(picture, 1, picture.with_name("mask.png"))
    assert screen([sample], "error", reader(roi="0,20,40,30")).empty_masks == [sample]
    assert not screen([sample], "error", reader(roi="0,10,40,30")).empty_masks


def test_batches_say_what_counts_in_the_geometry_of_the_input(picture: Path) -> None:
    region, spec = reader(roi="10,5,30,25", ignore="0,0,20,25"), InputSpec((8, 8))
    batch = SampleDataset([Sample(picture, 1, picture.with_name("mask.png"))] * 2, spec, reader=region).__getitems__([0, 1])[0]
    assert batch.valid is not None and batch.valid.shape == (2, 1, 8, 8)
    assert batch.valid[0, 0].tolist() == [[False] * 4 + [True] * 4] * 8
    assert collate([batch, batch[:1]]).valid.shape == (3, 1, 8, 8)  # type: ignore[union-attr]  # it has one
    assert SampleDataset([Sample(picture, 0)], spec, reader=reader(roi="10,5,30,25"))[0].valid is None


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
def test_maps_have_no_value_where_pixels_do_not_count(resize: Any) -> None:
    region, spec = reader(roi="10,5,30,25", ignore="0,0,20,25"), InputSpec((8, 6), resize)
    values = np.ones((8, 6), dtype=np.float32)
    counted = region.counted(values, (20, 20), spec)
    assert region.seen(HEIGHT, WIDTH) == (10, 5, 30, 25) and reader().seen(HEIGHT, WIDTH) == (0, 0, WIDTH, HEIGHT)
    keep = region.keep(20, 20)
    assert keep is not None and counted.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(counted), spec.mask(Image.fromarray(keep))[0].numpy())
    assert np.isnan(region.counted(np.ones((20, 20)), (20, 20), None)).sum() == 200
    assert reader().counted(values, (20, 20), spec) is values


def test_a_region_is_read_back_as_it_was_kept(picture: Path) -> None:
    for options in ({}, {"roi": "10,5,30,25"}, {"roi": "10,5,30,5,20,25", "ignore": "12,6,14,8"}, {"ignore": "1,2,3,4"}):
        one = reader(**options)
        assert ImageReader.from_dict(one.to_dict()) == one
    assert reader(ignore=["1,2,3,4", picture.with_name("mask.png")]).roi is not None


@pytest.mark.parametrize(
    "change",
    [
        {"box": [5, 5, 5, 9]},
        {"box": [-1, 5, 9, 9]},
        {"box": [0, 0, 19, 20]},
        {"ignored": {"width": 20, "height": 21, "bits": ""}},
        {"ignored": {"width": 20, "height": 20, "bits": "!"}},
        {"ignored": {"width": 20, "height": 20, "bits": "eJx7wPAA"}},
        {"ignored": {"width": 1 << 28, "height": 1 << 28, "bits": ""}},
        {"more": 1},
    ],
)
def test_a_damaged_region_is_refused(change: dict[str, Any]) -> None:
    region = reader(roi="10,5,30,25", ignore="12,6,14,8").to_dict()["roi"]
    with pytest.raises(ValueError, match=r"."):
        ImageReader.from_dict({"roi": {**region, **change}})
    assert isinstance(ImageReader.from_dict({"roi": region}).roi, RegionOfInterest)
