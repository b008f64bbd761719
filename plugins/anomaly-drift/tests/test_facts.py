"""Facts of images: what each change of an image does to them, whatever the image's size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from anomaly_drift import FACTS, image_facts

Pixels = NDArray[np.uint8]


def part(height: int = 300, width: int = 400, *, left: float = 0.4) -> Pixels:
    """A bright disc on a dark ground with some noise."""
    draw = np.random.default_rng(1)
    rows, columns = np.mgrid[:height, :width]
    disc = (rows / height - 0.5) ** 2 + (columns / height - left * width / height) ** 2 < 0.03
    noise = 6 * draw.standard_normal((height, width, 1))
    return np.clip(50 + 100 * disc[..., None] + noise + np.array([0.0, 4.0, 8.0]), 0, 255).astype(np.uint8)


def change(before: Pixels, after: Pixels) -> dict[str, float]:
    """The facts that changed by as much as is worth an alarm."""
    one, two = image_facts(before), image_facts(after)
    found = {name: FACTS[name].change(one[name], two[name]) for name in FACTS}
    return {name: value for name, value in found.items() if abs(value) >= FACTS[name].least}


def blurred(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5)))


def test_brighter_and_darker() -> None:
    for factor in (1.15, 0.8):
        found = change(part(), (part() * factor).astype(np.uint8))
        assert found["brightness"] == pytest.approx(factor - 1, abs=0.02)


def test_blur_noise_and_compression() -> None:
    blur = change(part(), blurred(part()))
    assert blur["sharpness"] < -0.1 and blur["grain"] < -0.1
    noise = np.clip(part() + 10.0 * np.random.default_rng(2).standard_normal(part().shape), 0, 255).astype(np.uint8)
    assert change(part(), noise)["sharpness"] > 0.1
    assert change(blurred(part()), part())["grain"] > 0.1


def test_colour_place_and_turn() -> None:
    warm = part()
    warm[..., 0] = np.clip(warm[..., 0] * 1.2, 0, 255)
    assert change(part(), warm)["red"] > 0.05
    assert change(part(), part(left=0.5))["centre_x"] > 0.03
    waves = (127 + 100 * np.sin(np.indices((200, 200)).sum(axis=0) / 5)).astype(np.uint8)
    stripes = np.repeat(waves[..., None], 3, axis=2)
    slant, other = image_facts(stripes)["slant"], image_facts(stripes[:, ::-1])["slant"]
    assert slant > 0.8 and other == pytest.approx(-slant, abs=0.1)


def test_an_unchanged_image_does_not_change_with_its_noise() -> None:
    other = np.clip(part() + np.random.default_rng(3).standard_normal(part().shape), 0, 255).astype(np.uint8)
    assert not change(part(), other).keys() - {"sharpness", "grain"}


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 7, 3), (5, 5, 3), (224, 224, 3), (1500, 40, 3), (700, 2000, 3)])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_any_size_and_a_flat_image_have_finite_facts(shape: tuple[int, int, int], value: int) -> None:
    facts = image_facts(np.full(shape, value, dtype=np.uint8))
    assert list(facts) and set(facts) == set(FACTS) and all(np.isfinite(one) for one in facts.values())
    assert facts["brightness"] == value and facts["contrast"] == 0


def test_words_say_the_direction() -> None:
    assert (
        FACTS["brightness"].words(100.0, 118.0) == "18 % brighter" and FACTS["sharpness"].words(1.0, 0.9) == "10 % less sharp"
    )
    assert FACTS["centre_x"].words(0.5, 0.53) == "3 % of the width further right"
    assert FACTS["slant"].words(0.5, 0.53) == FACTS["slant"].words(0.5, 0.47) == "turned or of another pattern"
