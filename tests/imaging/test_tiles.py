"""Tiles: where they lie, and how what was found on them becomes one map without seams."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_core import ConfigError, DataConfig
from anomaly_core.imaging.tiles import Canvas, Tiling, spans, windows


@given(length=st.integers(1, 3000), tile=st.integers(8, 700), share=st.floats(0, 0.5))
def test_tiles_cover_the_side_whole_and_inside(length: int, tile: int, share: float) -> None:
    overlap = int(tile * share)
    parts = spans(length, tile, overlap)
    assert parts[0][0] == 0
    assert parts[-1][1] == length
    assert {end - start for start, end in parts} == {min(tile, length)}
    for (_, before), (start, _) in itertools.pairwise(parts):
        assert before - start >= overlap
    assert len(parts) == len(set(parts))


@given(length=st.integers(1, 900), tile=st.integers(8, 300), share=st.floats(0, 0.5))
@settings(deadline=None)
def test_weights_sum_to_one_everywhere(length: int, tile: int, share: float) -> None:
    overlap = int(tile * share)
    parts = spans(length, tile, overlap)
    total = torch.zeros(length)
    for (start, end), weight in zip(parts, windows(parts, length, overlap), strict=True):
        assert bool((weight > 0).all())
        total[start:end] += weight
    torch.testing.assert_close(total, torch.ones(length))


def test_a_window_has_no_step() -> None:
    """Neighbouring weights differ by no more than the steepest part of a squared sine does."""
    for weight in windows(spans(1000, 256, 64), 1000, 64):
        assert float(weight.diff().abs().max()) < 1.6 * np.pi / (2 * 64)


def test_a_disagreement_of_two_tiles_becomes_a_slope_not_a_step() -> None:
    tiling = Tiling((64, 64), 16)
    canvas = Canvas(tiling, 64, 112)
    for value, box in enumerate(tiling.boxes(64, 112)):
        canvas.add(box, torch.full((1, 64, 64), float(value)))
    picture = canvas.picture()
    assert picture is not None
    steps = picture[0, 0, 0].diff()
    assert float(steps.min()) >= 0
    assert float(steps.max()) < 0.11
    assert picture[0, 0, 0, [0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tile": 64, "tile_overlap": 33}, "more than half"),
        ({"tile": (64, 16), "tile_overlap": 16}, "more than half"),
    ],
)
def test_tiles_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tiling.from_config(DataConfig(**options))
