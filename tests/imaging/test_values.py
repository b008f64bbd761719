"""Every form of values of more than 8 bits is read exactly, or refused by name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_images import png16, tiff
from PIL import Image

from anomaly_core import DataError, ImageReader, read_image

pytestmark = pytest.mark.reliability("input")

COLOUR = np.random.default_rng(0).integers(0, 1024, (24, 31, 3)).astype(np.uint16)
GREY = COLOUR[..., 0]
ALPHA = np.full((24, 31, 1), 65535, dtype=np.uint16)


def ppm(values: Any, greatest: int) -> bytes:
    return b"P5 %d %d %d\n" % (*values.shape[::-1], greatest) + bytes(values.astype(">u2").tobytes())


EXACT: dict[str, bytes] = {
    "grey.png": png16(GREY),
    "colour.png": png16(COLOUR),
    "opaque.png": png16(np.concatenate([COLOUR, ALPHA], axis=2)),
    "grey.tif": tiff(GREY),
    "grey-motorola.tif": tiff(GREY, order=">"),
    "grey-packed.tif": tiff(GREY, packed=True),
    "signed.tif": tiff(GREY.astype(np.int16)),
    "int32.tif": tiff(GREY.astype(np.int32)),
    "uint32.tif": tiff(GREY.astype(np.uint32)),
    "float.tif": tiff(GREY.astype(np.float32)),
    "inverted.tif": tiff(1023 - GREY, white_is_zero=True),
    "inverted-packed.tif": tiff(1023 - GREY, white_is_zero=True, packed=True),
    "inverted-float.tif": tiff((1023 - GREY).astype(np.float32), white_is_zero=True),
    "colour.tif": tiff(COLOUR),
    "colour-motorola.tif": tiff(COLOUR, order=">"),
    "colour-packed.tif": tiff(COLOUR, packed=True),
    "colour-motorola-packed.tif": tiff(COLOUR, packed=True, order=">"),
    "planar.tif": tiff(COLOUR, planar=True),
    "planar-motorola.tif": tiff(COLOUR, planar=True, order=">"),
}
COARSE: dict[str, bytes] = {
    "planar-packed.tif": tiff(COLOUR << 6, planar=True, packed=True),
    "grey-alpha.png": png16(np.concatenate([GREY[..., None] << 6, ALPHA], axis=2)),
}


@pytest.mark.parametrize("name", EXACT)
def test_ten_bits_keep_their_levels(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(EXACT[name])
    reader = ImageReader(range=(0, 1023))
    expected = np.round((COLOUR if "colour" in name or "planar" in name or "opaque" in name else GREY) * (255 / 1023))
    image = reader.read(tmp_path / name, grey=True)
    assert image.mode == ("RGB" if expected.ndim == 3 else "L")
    assert np.array_equal(np.asarray(image), expected)
    facts = reader.examine(tmp_path / name)
    values = 1023 - GREY if "inverted" in name else COLOUR if expected.ndim == 3 else GREY
    assert (facts.size, facts.span, facts.exact) == ((24, 31), (values.min(), values.max()), True)


@pytest.mark.parametrize("name", COARSE)
def test_where_only_high_bytes_are_known_the_whole_range_is_read_and_another_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(COARSE[name])
    pixels = np.asarray(read_image(tmp_path / name))
    expected = COLOUR if "planar" in name else GREY[..., None]
    assert np.abs(pixels - ((expected << 6) / 257)).max() <= 1
    with pytest.raises(DataError, match=rf"{name}.*only the high bytes.*0 to 1023"):
        ImageReader(range=(0, 1023)).read(tmp_path / name)


def test_eight_bits_in_a_wider_type_are_those_eight_bits(tmp_path: Path) -> None:
    eight = (GREY >> 2).astype(np.uint8)
    for kind in (np.uint16, np.int32, np.float32):
        (tmp_path / "wide.tif").write_bytes(tiff(eight.astype(kind)))
        assert np.array_equal(np.asarray(ImageReader(range=(0, 255)).read(tmp_path / "wide.tif", grey=True)), eight)


def test_a_file_of_eight_bits_does_not_change_with_the_range(tmp_path: Path) -> None:
    Image.fromarray((GREY >> 2).astype(np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray((COLOUR >> 2).astype(np.uint8)).save(tmp_path / "eight.jpg")
    for name in ("eight.png", "eight.jpg"):
        plain = np.asarray(read_image(tmp_path / name))
        assert np.array_equal(np.asarray(ImageReader(range=(0, 99)).read(tmp_path / name)), plain)


def test_a_portable_map_says_its_range_itself(tmp_path: Path) -> None:
    (tmp_path / "grey.pgm").write_bytes(ppm(GREY, 1023))
    assert np.abs(np.asarray(read_image(tmp_path / "grey.pgm"))[..., 0] - GREY * (255 / 1023)).max() <= 0.51


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_a_float_image_with_pixels_that_are_no_numbers_is_refused_by_name(value: float, word: str, tmp_path: Path) -> None:
    values = np.zeros((5, 6), dtype=np.float32)
    values[2, 3] = value
    (tmp_path / "odd.tif").write_bytes(tiff(values))
    for reading in (ImageReader().examine, ImageReader(range=(0, 1)).read):
        with pytest.raises(DataError, match=rf"odd\.tif.*{word}"):
            reading(tmp_path / "odd.tif")


def test_floats_are_refused_where_nothing_says_their_range(tmp_path: Path) -> None:
    (tmp_path / "float.tif").write_bytes(tiff(np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)))
    with pytest.raises(DataError, match=r"float\.tif.*floats from 0 to 1"):
        read_image(tmp_path / "float.tif")


def test_a_turned_file_of_sixteen_bits_is_upright(tmp_path: Path) -> None:
    reader = ImageReader(range=(0, 1023))
    for name, values in (("grey.tif", GREY), ("colour.tif", COLOUR), ("packed.tif", COLOUR)):
        path = tmp_path / name
        path.write_bytes(tiff(values, packed=name == "packed.tif", tags=[(274, "H", [6])]))
        expected = np.round(np.rot90(values, -1) * (255 / 1023))
        assert np.array_equal(np.asarray(reader.read(path, grey=True)), expected)
        assert reader.size(path) == reader.examine(path).size == (31, 24)


def test_a_picture_in_memory_is_read_as_from_a_file() -> None:
    reader = ImageReader(range=(0, 1023))
    opened = Image.open(io.BytesIO(EXACT["colour.png"]))
    assert np.array_equal(np.asarray(reader.convert(opened)), np.round(COLOUR * (255 / 1023)))
    assert np.array_equal(np.asarray(reader.convert(Image.fromarray(GREY)))[..., 0], np.round(GREY * (255 / 1023)))
