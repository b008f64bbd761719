"""Every kind of image file is read as it is meant, or refused by name."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from anomaly_core import DataError, ImageReader, InputSpec, is_clutter, read_image, read_mask, read_mask_classes
from odd_images import BAD, GOOD
from tiny.data import draw, write_image

pytestmark = pytest.mark.reliability("input")


@pytest.mark.parametrize("name", GOOD)
def test_an_unusual_image_is_read_as_it_is_meant(name: str, tmp_path: Path) -> None:
    content, size, expected = GOOD[name]
    path = tmp_path / name
    path.write_bytes(content)
    image = read_image(path)
    assert image.mode == "RGB"
    assert (image.height, image.width) == ImageReader().size(path) == ImageReader().examine(path).size == size
    sent = BytesIO(content)  # what comes over a network is read as a file is
    assert ImageReader().size(sent) == size and ImageReader().read(sent, known=True).tobytes() == image.tobytes()
    centre = image.getpixel((image.width // 2, image.height // 2))
    assert np.abs(np.array(centre) - expected).max() <= 4
    for resize in ("stretch", "keep", "pad"):
        spec = InputSpec((64, 48), resize)  # type: ignore[arg-type]
        placed = spec.image(image)
        assert placed.shape == (3, 64, 48)
        width, height = spec.fitted(*image.size)
        top, left = max(0, (64 - height) // 2), max(0, (48 - width) // 2)  # without the border of `pad`
        placed = placed[:, top : top + height, left : left + width]
        assert float((placed.mean(dim=(1, 2)) * 255 - torch.tensor(expected)).abs().max()) <= 4


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(DataError):
        ImageReader().read(BytesIO(BAD[name]))
    with pytest.raises(DataError, match=name):
        read_image(tmp_path / name)
    with pytest.raises(DataError, match=name):
        ImageReader().examine(tmp_path / name)


def test_the_size_of_a_turned_photograph(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.jpg")
    assert ImageReader().size(tmp_path / "turned.jpg") == (30, 20)
    assert ImageReader().size(tmp_path / "plain.jpg") == (20, 30)


@pytest.mark.skipif(sys.platform == "win32", reason="no such links without a right to make them")
def test_a_link_to_an_image_is_that_image(tmp_path: Path) -> None:
    write_image(tmp_path / "real.png", draw(1, 48)[0])
    (tmp_path / "link.png").symlink_to("real.png")
    assert ImageReader().examine(tmp_path / "link.png").size == (48, 48)


def test_a_mask_is_any_value_but_zero_and_several_are_one(tmp_path: Path) -> None:
    values = np.zeros((6, 8), dtype=np.uint8)
    values[0, :3], values[5, 7] = (1, 2, 255), 7
    first = write_image(tmp_path / "first.png", values)
    second = write_image(tmp_path / "second.png", np.rot90(values, 2).copy())
    assert np.array_equal(np.asarray(read_mask(first)), (values > 0) * 255)
    assert np.array_equal(read_mask_classes(first), values)
    assert np.array_equal(np.asarray(read_mask((first, second))), ((values > 0) | (np.rot90(values, 2) > 0)) * 255)
    small = write_image(tmp_path / "small.png", values[:5])
    with pytest.raises(DataError, match=r"first\.png' and '.*small\.png' of one image differ in size"):
        read_mask((first, small))


def test_what_other_programs_leave_is_known_by_name() -> None:
    left = [
        ".ipynb_checkpoints",
        ".Trash-1000",
        "._1.png",
        "@eaDir",
        "__MACOSX",
        "$RECYCLE.BIN",
        "Thumbs.db",
        "lost+found",
        "~$a",
    ]
    assert all(map(is_clutter, left))
    assert not any(map(is_clutter, ["good", "1.png", "thumbs", "@home", "_1.png", "a.thumbnails"]))
