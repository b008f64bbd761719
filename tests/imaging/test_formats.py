"""Every suffix that Pillow itself can read is read, one page of several, and large images have a limit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_images import tiff
from numpy.typing import NDArray
from PIL import Image, features

from anomaly_core import IMAGE_SUFFIXES, ConfigError, DataConfig, DataError, ImageReader, image_size, read_image, read_mask
from anomaly_core.imaging.formats import FORMATS
from tiny.data import draw, write_image

pytestmark = pytest.mark.reliability("input")

PICTURE = Image.fromarray(draw(1, 48)[0])
BARE = {".pgm": "L", ".pbm": "1", ".pfm": "F"}


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_a_file_of_each_suffix_is_read(suffix: str, tmp_path: Path) -> None:
    kind = next(name for name, suffixes in FORMATS.items() if suffix in suffixes)
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    if kind == "SUN":
        pytest.skip("Pillow writes none")
    path = tmp_path / f"picture{suffix}"
    picture = PICTURE.convert(BARE.get(suffix, "RGB"))
    Image.init()
    options = {"quality": 95} if kind in ("JPEG", "AVIF", "WEBP") else {}
    if kind == "QOI" and kind not in Image.SAVE:
        pytest.skip("this Pillow cannot write QOI")
    picture.save(path, kind, **options)  # type: ignore[arg-type]
    image = ImageReader(range=(0, 255)).read(path)
    assert (image.mode, image.size) == ("RGB", (48, 48))
    away = np.abs(
        np.asarray(image).astype(int) - np.asarray(picture.convert("L" if suffix == ".pfm" else "RGB").convert("RGB"))
    )
    assert away.mean() < 4


@pytest.mark.parametrize("kind", ["EPS", "ICO"])
def test_a_format_that_is_not_read_is_refused_whatever_its_name(kind: str, tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "picture.png", kind)
    with pytest.raises(DataError, match=r"picture\.png.*it is no image of a format that is read \(.*PNG"):
        read_image(tmp_path / "picture.png")


@pytest.mark.parametrize("values", [np.ones((9, 8)), np.ones((9, 8, 3), dtype=np.float32)])
def test_a_tiff_whose_pixels_are_not_read_says_how_to_save_it(values: NDArray[Any], tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(tiff(values))
    with pytest.raises(DataError, match=r"x\.tif': it is a TIFF file whose kind .* 64 bits, .*floats of 32 bits\.$"):
        ImageReader(range=(0, 1)).read(tmp_path / "x.tif")


def test_the_limit_of_a_reader_is_that_of_masks_drawn_for_its_images_too(tmp_path: Path) -> None:
    path = write_image(tmp_path / "large.png", np.zeros((20, 30), dtype=np.uint8))
    with ImageReader(largest_image=599)._limit():
        for reading in (image_size, read_image):
            with pytest.raises(DataError, match="30 x 20"):
                reading(path)
    with pytest.raises(ConfigError, match=r"data\.roi: .*30 x 20 .*data\.largest_image=600"):
        ImageReader.from_config(DataConfig(name="x", roi=str(path), largest_image=599))


def test_the_limit_of_pixels_is_the_readers_and_not_a_global(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    path = write_image(tmp_path / "large.png", np.zeros((200, 300), dtype=np.uint8))
    with pytest.raises(DataError, match=r"large\.png.*300 x 200 pixels.*59999.*data\.largest_image=60000 or more\.$"):
        ImageReader(largest_image=59_999).read(path)
    for reading in (ImageReader(largest_image=59_999).size, ImageReader(largest_image=59_999).examine):
        with pytest.raises(DataError, match="300 x 200"):
            reading(path)
    with pytest.raises(DataError, match=r"mask .*large\.png.*300 x 200"):
        ImageReader(largest_image=59_999).mask(path)
    assert ImageReader(largest_image=60_000).read(path).size == (300, 200)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_more_pixels_than_pillow_allows_are_read_without_its_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "large.png", np.zeros((200, 300), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as if it had 90 million
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).size == read_mask(path).size == (300, 200)


def test_the_chosen_page_is_read_and_a_missing_one_named(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    greys = [Image.new("L", (20 + 10 * page, 20), 50 * page) for page in (1, 2, 3)]
    greys[0].save(path, save_all=True, append_images=greys[1:])
    for page in (1, 2, 3):
        reader = ImageReader(page=page)
        assert reader.read(path, known=True).getpixel((0, 0)) == (50 * page,) * 3
        assert reader.size(path) == reader.examine(path).size == (20, 20 + 10 * page)
    assert ImageReader().examine(path).pages == 3
    with pytest.warns(UserWarning, match=r"pages\.tif' has several pages \(3 pages\). Only page 2 is read; data\.page chooses"):
        ImageReader(page=2).read(path)
    with pytest.raises(DataError, match=r"pages\.tif.*3 pages, and data\.page is 4\. Choose"):
        ImageReader(page=4).read(path)


def test_deep_pages_are_the_chosen_ones(tmp_path: Path) -> None:
    first, second = (np.full((8, 9), value, dtype=np.uint16) for value in (100, 900))
    Image.fromarray(first).save(tmp_path / "deep.tif", save_all=True, append_images=[Image.fromarray(second)])
    assert ImageReader(page=2).examine(tmp_path / "deep.tif").span == (900, 900)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "MPO"])
def test_moving_pictures_have_several_pages(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    PICTURE.save(path, kind, save_all=True, append_images=[PICTURE.rotate(90)])
    assert ImageReader().examine(path).pages == 2


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_told(kind: str, tmp_path: Path) -> None:
    opaque = PICTURE.convert("RGBA")
    if kind == "P":
        clear = Image.new("P", (48, 48), 1)
        clear.putpalette([0, 0, 0, 255, 255, 255])
        clear.save(tmp_path / "clear.png", transparency=1)
    else:
        clear = opaque.copy()
        clear.putpixel((3, 4), (1, 2, 3, 100))
        clear.convert(kind).save(tmp_path / "clear.png")
        opaque.convert(kind).save(tmp_path / "opaque.png")
        assert not ImageReader().examine(tmp_path / "opaque.png").transparent
    assert ImageReader().examine(tmp_path / "clear.png").transparent
    with pytest.warns(UserWarning, match="transparent pixels .*colours stored beneath"):
        ImageReader().read(tmp_path / "clear.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_sound_pixels_with_unreadable_metadata_are_read_and_told(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    Image.new("RGB", (30, 20), (9, 99, 9)).save(path, exif=b"Exif\0\0" + b"\xff" * 40, icc_profile=b"no profile")
    reader = ImageReader()
    assert reader.size(path) == reader.examine(path).size == (20, 30)
    assert reader.examine(path).fault
    with pytest.warns(UserWarning, match=rf"broken{suffix}' has unreadable metadata .*used as they are stored"):
        image = reader.read(path)
    assert np.abs(np.subtract(image.getpixel((5, 5)), (9, 99, 9))).max() < 4
