"""Masks of every kind: clean and noisy ones, classes, palettes, opacity, and masks that draw themselves."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from anomaly_core import DataError, MaskSource, Sample, read_mask, read_mask_classes, screen, warnings_of
from tiny.data import draw, write_image

pytestmark = pytest.mark.reliability("input")


@dataclass(frozen=True)
class Stripe(MaskSource):
    """The top row of a mask of 8 x 6 pixels."""

    def read(self) -> Image.Image:
        mask = Image.new("L", (8, 6))
        mask.paste(255, (0, 0, 8, 1))
        return mask


def test_a_mask_may_be_anything_that_draws_itself(tmp_path: Path) -> None:
    sample = Sample(write_image(tmp_path / "a.png", draw(1, 48)[0]), 1, Stripe(tmp_path / "a.txt"))
    stripe = Stripe(tmp_path / "a.txt")
    assert pickle.loads(pickle.dumps(stripe)) == sample.mask_path and len({stripe, sample.mask_path}) == 1
    assert sample.mask_files == (tmp_path / "a.txt",)
    assert sum(pixel > 0 for pixel in read_mask(stripe).tobytes()) == 8
    with pytest.raises(DataError, match=r"mask '.*a\.txt' is 8x6, its image '.*a\.png' 48x48"):
        screen([sample], "error")


def defect(scale: int = 1) -> Image.Image:
    """A disc and a triangle; drawn larger, to be shrunk to smooth edges."""
    mask = Image.new("L", (120 * scale, 96 * scale))
    draw = ImageDraw.Draw(mask)
    draw.ellipse([scale * side for side in (15, 20, 45, 50)], fill=255)
    draw.polygon([scale * side for side in (70, 20, 110, 40, 75, 80)], fill=255)
    return mask


def marked(path: Path) -> int:
    return int((np.asarray(read_mask(path)) > 0).sum())


def noisy(path: Path) -> bool:
    return bool(read_mask(path).info["thresholded"])


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("again_as", [".jpg", ".png"])
def test_a_jpeg_mask_marks_what_was_drawn(tmp_path: Path, quality: int, again_as: str) -> None:
    defect().save(tmp_path / "mask.jpg", quality=quality)
    path = (tmp_path / "mask").with_suffix(again_as)
    Image.open(tmp_path / "mask.jpg").save(path, **({"quality": "keep"} if again_as == ".jpg" else {}))
    drawn = np.asarray(defect()) > 0
    assert (read_mask_classes(path) > 0).sum() > 1.02 * drawn.sum()  # any value but zero is too much
    assert abs(marked(path) - drawn.sum()) < 0.01 * drawn.sum()
    assert noisy(path)


@pytest.mark.parametrize(
    ("name", "mask"),
    {
        "anti-aliased": defect(4).resize((120, 96), Image.Resampling.BOX),
        "resized": defect(3).resize((120, 96), Image.Resampling.LANCZOS),
        **{f"blurred {radius}": defect().filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 2, 3)},
    }.items(),
)
def test_fading_edges_are_cut_in_their_middle(tmp_path: Path, name: str, mask: Image.Image) -> None:
    mask.save(tmp_path / "8.png")
    Image.fromarray(np.asarray(mask).astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(np.asarray(mask).astype(np.float32) / 255).save(tmp_path / "float.tif")
    drawn = int((np.asarray(defect()) > 0).sum())
    for path in tmp_path.iterdir():
        assert abs(marked(path) - drawn) < 0.05 * drawn, (name, path.name)
        assert noisy(path)


def classes(count: int) -> np.ndarray:
    """Areas of random size and place that touch and overlap."""
    random, values = np.random.default_rng(count), np.zeros((96, 120), dtype=np.int32)
    for value in range(1, count + 1):
        top, left = random.integers(0, 90, 2)
        values[top : top + random.integers(2, 20), left : left + random.integers(2, 20)] = value
    return values


@pytest.mark.parametrize(
    "values",
    [
        classes(2),
        classes(30),
        classes(250),
        classes(900),
        classes(5) * 50,
        np.where(classes(12) == 12, 255, classes(12)),  # 255: to be ignored
        np.arange(96)[:, None] // 3 * np.ones((1, 120), dtype=np.int32),  # 32 stripes
        np.pad(np.pad(np.full((30, 40), 255), 2, constant_values=128), ((31, 31), (38, 38))),  # a border of its own class
    ],
)
def test_no_class_is_taken_for_noise(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(values.astype(np.uint8 if values.max() < 256 else np.uint16)).save(path)
    assert not noisy(path)
    assert np.array_equal(np.asarray(read_mask(path)) > 0, values > 0)
    assert np.array_equal(read_mask_classes(path), values)


def painted(mode: str, back: tuple[int, ...], stroke: tuple[int, ...]) -> Image.Image:
    image = Image.new(mode, (120, 96), back)
    image.paste(stroke, mask=defect())
    return image


def with_palette(palette: list[int], back: int, stroke: int) -> Image.Image:
    image = Image.fromarray(np.where(np.asarray(defect()) > 0, stroke, back).astype(np.uint8), "P")
    image.putpalette(palette)
    return image


def see_through() -> Image.Image:
    """A white defect on black, and a transparent corner."""
    image = painted("RGBA", (0, 0, 0, 255), (255, 255, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 10))
    return image


CLEAN = {
    "one bit": defect().convert("1"),
    "colour": painted("RGB", (0, 0, 0), (0, 0, 200)),
    "opaque": painted("RGBA", (0, 0, 0, 255), (255, 255, 255, 255)),
    "white strokes on nothing": painted("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)),
    "black strokes on nothing": painted("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)),
    "half-transparent strokes": painted("RGBA", (0, 0, 0, 0), (255, 0, 0, 128)),
    "grey strokes on nothing": painted("LA", (255, 0), (255, 255)),
    "opaque and a transparent corner": see_through(),
    "a palette whose background is grey": with_palette([90, 90, 90, 200, 10, 10], 0, 1),
    "a palette whose defect is black": with_palette([0, 0, 0] * 256, 0, 7),
    "a palette whose background comes second": with_palette([255, 255, 255, 0, 0, 0], 1, 0),
}


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_marked_whatever_the_mode(tmp_path: Path, name: str) -> None:
    CLEAN[name].save(tmp_path / "mask.png")
    assert np.array_equal(np.asarray(read_mask(tmp_path / "mask.png")), np.asarray(defect()))
    assert not noisy(tmp_path / "mask.png")


def test_nothing_drawn_is_an_empty_mask(tmp_path: Path) -> None:
    Image.new("RGBA", (120, 96), (255, 255, 255, 0)).save(tmp_path / "nothing.png")
    assert marked(tmp_path / "nothing.png") == 0
    with_palette([255, 0, 0, 0, 0, 0], 0, 0).save(tmp_path / "transparent.png", transparency=0)
    assert marked(tmp_path / "transparent.png") == 0


def test_no_number_is_no_mask(tmp_path: Path) -> None:
    values = np.zeros((96, 120), dtype=np.float32)
    values[3, 4] = np.nan
    Image.fromarray(values).save(tmp_path / "mask.tif")
    with pytest.raises(DataError, match=r"cannot read the mask '.*mask\.tif': it holds NaN"):
        read_mask(tmp_path / "mask.tif")


def test_noise_and_missing_masks_are_told(tmp_path: Path) -> None:
    samples = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (120, 96), (number, 90, 90)).save(path)
        mask = tmp_path / f"{number}_mask.{'jpg' if number < 2 else 'png'}"
        defect().save(mask)
        samples.append(Sample(path, int(number < 5), mask if number < 3 else None))
    samples.append(Sample(tmp_path / "5.png", 1, (tmp_path / "2_mask.png", tmp_path / "1_mask.jpg")))
    screened = screen(samples, "error")
    assert screened.noisy_masks == [*samples[:2], samples[-1]]
    noise, missing = warnings_of(screened, [], [], samples)
    assert "3 masks, such as" in noise and "0_mask.jpg" in noise and "half of its largest value" in noise
    assert "2 of the 6 anomalous test images have no mask" in missing
    assert "3.png" in missing and "4.png" in missing and "5.png" not in missing
