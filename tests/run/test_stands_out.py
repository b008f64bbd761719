"""Which normal images stand out, and the rows that say so."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_core import NormalImage, robust_deviations, stands_out


def test_deviations_are_those_of_the_median_absolute_deviation_where_scores_are_symmetric() -> None:
    half = np.random.default_rng(0).gamma(2, size=51)
    scores = 100 + np.concatenate([half, -half])
    expected = (scores - 100) / (1.4826 * np.median(np.abs(scores - np.median(scores))))
    np.testing.assert_allclose(robust_deviations(scores.tolist()), expected, rtol=1e-3)


def test_what_lies_below_does_not_count() -> None:
    scores = [10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 12.0]
    expected = [False] * 6 + [True]
    assert stands_out(scores) == expected
    assert stands_out([*(score - 100 for score in scores[:3]), *scores[3:]]) == expected


@pytest.mark.parametrize("scale, shift", [(1e-6, 0.0), (1e6, -3e6)])
def test_the_unit_of_the_scores_does_not_count(scale: float, shift: float) -> None:
    scores = np.random.default_rng(1).gumbel(size=200)
    assert stands_out((scores * scale + shift).tolist()) == stands_out(scores.tolist())


def test_odd_images_do_not_hide_each_other_up_to_a_fifth() -> None:
    scores = np.random.default_rng(2).normal(50, 1, 100)
    scores[:20] = 1000
    assert stands_out(scores.tolist()) == [True] * 20 + [False] * 80


def test_few_of_the_clean_ones_stand_out() -> None:
    random = np.random.default_rng(3)
    for few in range(6):
        assert not any(stands_out(random.gumbel(size=few).tolist()))
    assert 0 < np.mean(stands_out(random.gumbel(size=20_000).tolist())) < 0.012


@pytest.mark.parametrize("scores", [[], [3.0], [2.0] * 9, [2.0] * 9 + [7.0]])
def test_where_the_scores_do_not_differ_none_stands_out(scores: list[float]) -> None:
    assert not any(stands_out(scores))


def test_a_row_of_the_table_comes_back() -> None:
    image = NormalImage("=a b, 'Prüfling'.png", "caps", 1.25e-7, None, suspect=True, dropped=True, picture="suspects/0.png")
    cells = {name: str(cell) for name, cell in image.to_row().items()}
    assert NormalImage.from_row(cells) == image
    with pytest.raises(ValueError, match="score"):
        NormalImage.from_row({**cells, "score": "nan"})
