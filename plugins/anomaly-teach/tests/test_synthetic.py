"""Synthetic defects: their area, their place, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_teach.synthetic import KINDS, with_defect


def surface(height: int = 120, width: int = 160, grey: int = 140) -> np.ndarray:
    grain = np.random.default_rng(1).normal(grey, 6, (height, width, 1))
    return np.repeat(grain, 3, axis=2).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3, 8, 20])
def test_a_defect_has_about_the_area_that_is_asked_for(kind: str, size: int) -> None:
    image = surface()
    before = image.copy()
    for seed in range(5):
        changed, where = with_defect(image, kind, size, np.random.default_rng(seed))
        assert 0.6 * size**2 <= where.sum() <= 2.6 * size**2  # soft edges of small ones count too
        assert (changed[~where] == image[~where]).all()
        difference = np.abs(changed.astype(int) - image)[where].mean()
        assert difference > 10
    assert (image == before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_gives_the_same_defect_again(kind: str) -> None:
    first, again, other = (with_defect(surface(), kind, 9, np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    assert (first == again).all() and (first != other).any()


def test_a_defect_lies_in_the_region_of_interest() -> None:
    region = np.zeros((120, 160), dtype=bool)
    region[40:80, 100:140] = True
    for seed in range(10):
        _, where = with_defect(surface(), "hole", 6, np.random.default_rng(seed), region)
        rows, columns = np.nonzero(where)
        assert rows.min() >= 36 and rows.max() <= 84 and columns.min() >= 96 and columns.max() <= 144


def test_dark_parts_get_bright_defects_and_bright_parts_dark_ones() -> None:
    for grey, brighter in ((20, True), (230, False)):
        image = surface(grey=grey)
        changed, where = with_defect(image, "hole", 10, np.random.default_rng(0))
        assert (changed[where].mean() > image[where].mean()) == brighter


def test_what_has_no_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="61 pixels does not fit into an image of 160x120"):
        with_defect(surface(), "hole", 61, np.random.default_rng(0))
    corner = np.zeros((120, 160), dtype=bool)
    corner[:3, :3] = True
    with pytest.raises(ValueError, match="no place in the region of interest"):
        with_defect(surface(), "hole", 6, np.random.default_rng(0), corner)
