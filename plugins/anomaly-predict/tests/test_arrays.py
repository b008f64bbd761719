"""Arrays and tensors as images: the shapes, dtypes and values that are taken, and what is said of others."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import DataError, ImageReader
from anomaly_predict import as_image, several

NOISE = np.random.default_rng(0).integers(0, 256, (24, 16, 4), dtype=np.uint8)  # (H, W, 4)
RGB = NOISE[..., :3]
CHW = torch.from_numpy(NOISE).permute(2, 0, 1)


def uint8(*shape: int) -> np.ndarray:
    return np.full(shape, 7, dtype=np.uint8)


def taken(images: Any) -> list[Image.Image]:
    return [as_image(image, ImageReader()) for image in several(images)]


@pytest.mark.parametrize(
    "image",
    [
        RGB,
        NOISE,
        np.asfortranarray(RGB),
        CHW[:3],
        CHW,
        CHW[:3].float() / 255,
        CHW[:3].double() / 255,
        (CHW[:3].float() / 255).requires_grad_(),
        CHW[:3].float() / 255 + 0.001 * torch.tensor([-1, 1, 1])[:, None, None],  # a rounding beyond [0, 1]
        CHW[None, :3].to(memory_format=torch.channels_last),
        torch.nn.Parameter(CHW[:3].float() / 255),
        [RGB],
        (RGB,),
        iter([RGB]),
        RGB[None],
        np.array([None, RGB], dtype=object)[1:],
    ],
    ids=lambda image: type(image).__name__,
)
def test_every_form_of_one_image_is_that_image(image: Any) -> None:
    (one,) = taken(image)
    np.testing.assert_array_equal(np.asarray(one), RGB)


def test_a_picture_loses_its_transparency_and_says_so() -> None:
    with pytest.warns(UserWarning, match="transparent pixels"):
        (one,) = taken(Image.fromarray(NOISE))
    np.testing.assert_array_equal(np.asarray(one), RGB)


@pytest.mark.parametrize(
    ("image", "count"),
    [
        (uint8(24, 16), 1),
        (uint8(1, 24, 16), 1),
        (uint8(24, 16, 1), 1),
        (uint8(5, 24, 16), 5),
        (uint8(3, 24, 16, 1), 3),
        (uint8(3, 24, 16, 4), 3),
        (torch.from_numpy(uint8(24, 16)), 1),
        (torch.from_numpy(uint8(2, 1, 24, 16)), 2),
        (torch.from_numpy(uint8(2, 4, 24, 16)), 2),
    ],
)
def test_how_many_images_there_are(image: Any, count: int) -> None:
    sizes = [one.size for one in taken(image)]
    assert sizes == [(16, 24)] * count
    assert taken(image[:0]) == [] if count > 1 else True


REFUSED: dict[str, tuple[Any, str]] = {
    "planar": (uint8(3, 24, 16), "this is (3, 24, 16) of uint8, values 7 to 7. If its first axis is the colours, give "
               "image.transpose(1, 2, 0). If these are 3 grey images, give list(images)."),
    "planar rgba": (uint8(4, 24, 16), "give image.transpose(1, 2, 0)"),
    "planar batch": (uint8(2, 3, 24, 16), "give image.transpose(0, 2, 3, 1)"),
    "two channels": (uint8(24, 16, 2), "It has 2 channels"),
    "many channels": (uint8(2, 24, 16, 7), "It has 7 channels"),
    "no axis": (uint8(), "this is () of uint8, values 7 to 7. It has 0 axes"),
    "one axis": (uint8(24), "It has 1 axes"),
    "five axes": (uint8(1, 1, 24, 16, 3), "It has 5 axes"),
    "empty": (uint8(0, 16, 3), "this is (0, 16, 3) of uint8. It is empty"),
    "a batch in a list": ([uint8(2, 24, 16, 3)], "give them by themselves, not within a list"),
    "bool": (RGB > 99, "of bool, values 0 to 1. Give image.astype(np.uint8) * 255."),
    "float": (RGB / 255, "of float64, values 0 to 1. Give (image * 255).round().astype(np.uint8)."),
    "float 255": (RGB.astype(np.float32), "values 0 to 255. If they are 8-bit values, give image.round().astype(np.uint8)"),
    "int64": (RGB.astype(np.int64), "of int64, values 0 to 255. If they are 8-bit values, give image.round().astype(np.uint8)"),
    "uint16": (RGB.astype(np.uint16) * 257, "values 0 to 65535. If they are 16-bit values, give (image / 257).round().astype"),
    "normalised array": (RGB / 100 - 1, "It looks normalised"),
    "nan array": (np.full((24, 16, 3), np.nan), "It holds NaN or infinity"),
    "objects": (np.full((24, 16, 3), None), "of object. Give its values as uint8"),
    "complex": (RGB * 1j, "of complex128. Give its values as uint8"),
    "text": (np.array([["a.png"]]), "Give its values as uint8"),
    "none": (None, "this is of type NoneType"),
    "nones": ([None], "this is of type NoneType"),
    "number": (7, "this is of type int"),
    "pixels of python": (RGB.tolist(), "this is of type list"),
    "mapping": ({"image": RGB}, "this is of type dict"),
    "bytes": (b"\x89PNG", "of type bytes. Decode it: PIL.Image.open(io.BytesIO(data))"),
    "channels last": (torch.from_numpy(RGB), "If its last axis is the colours, give image.permute(2, 0, 1)"),
    "batch, channels last": (torch.from_numpy(RGB)[None], "give image.permute(0, 3, 1, 2)"),
    "grey tensors": (torch.from_numpy(uint8(5, 24, 16)), "If these are 5 grey images, give images[:, None]"),
    "normalised": ((CHW[:3] / 255 - 0.45) / 0.22, "values -2.0455 to 2.5. It looks normalised: give the image before"),
    "one of a batch is normalised": (torch.stack([CHW[:3] * 0.0, CHW[:3] / 255 - 0.5]), "It looks normalised"),
    "tensor 255": (CHW[:3].float(), "of torch.float32, values 0 to 255. If they are 8-bit values, give (image / 255)"),
    "tensor bool": (CHW[:3] > 100, "of torch.bool, values 0 to 1. Give image.byte() * 255"),
    "tensor int64": (CHW[:3].long(), "of torch.int64, values 0 to 255. If they are 8-bit values, give image.byte()"),
    "tensor nan": (CHW[:3] * float("nan"), "It holds NaN or infinity"),
    "tensor half inf": (CHW[:3].half() / 0, "It holds NaN or infinity"),
    "tensor empty": (torch.zeros(3, 0, 16), "this is (3, 0, 16) of torch.float32. It is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.reliability("input")
def test_what_is_no_image_says_what_came_and_the_next_step(name: str) -> None:
    image, words = REFUSED[name]
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        taken(image)
    assert str(caught.value).startswith(("an array image must be", "a tensor image must be", "an image must be"))


def test_the_next_steps_work() -> None:
    planar = RGB.transpose(2, 0, 1)
    scaled = (RGB / 255 * 255).round().astype(np.uint8)
    for image in (planar.transpose(1, 2, 0), scaled, torch.from_numpy(RGB).permute(2, 0, 1)):
        np.testing.assert_array_equal(np.asarray(taken(image)[0]), RGB)
    assert len(taken(list(planar))) == 3
    assert len(taken(torch.from_numpy(planar)[:, None])) == 3
    for tensor in (CHW[:3].float() / 255, CHW[:3].long().byte()):
        np.testing.assert_array_equal(np.asarray(taken(tensor)[0]), RGB)
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "png")
    np.testing.assert_array_equal(np.asarray(taken(Image.open(io.BytesIO(file.getvalue())))[0]), RGB)
