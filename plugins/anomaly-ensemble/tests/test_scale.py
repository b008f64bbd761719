"""The scale of an ensemble, against what it stands for: minus the logarithm of a share of normal images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from anomaly_ensemble.ensemble.scale import Scale


def fitted(values: list[float], **options: bool | float) -> Scale:
    scale = Scale()
    scale.fit(values, **options)  # type: ignore[arg-type]
    return scale


def test_exponential_scores_become_minus_the_logarithm_of_their_share_far_beyond_the_normal_images() -> None:
    scores = np.random.default_rng(0).exponential(3.0, 4000)
    places = np.array([1.0, 5.0, 15.0, 30.0, 60.0])
    found = fitted(scores.tolist())(torch.tensor(places, dtype=torch.float32))
    np.testing.assert_allclose(found, -stats.expon.logsf(places, scale=3.0), rtol=0.1)


@pytest.mark.parametrize("extrapolate", [True, False])
@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0, 5.0], [1e6, 1e6 + 1, 1e6 + 2], list(map(float, range(100)))])
def test_it_rises_and_is_finite_for_any_scores(values: list[float], extrapolate: bool) -> None:
    places = torch.linspace(min(values) - 3, max(values) + 3, 400)
    found = fitted(values, extrapolate=extrapolate)(places)
    assert found.isfinite().all()
    rises = found.diff()
    assert (rises >= 0).all() and rises[:50].sum() > 0
    assert (rises[-10:].sum() > 0) == extrapolate


def test_without_extrapolation_it_ends_at_the_conformal_p_value() -> None:
    scores = sorted(np.random.default_rng(1).normal(size=199).tolist())
    scale = fitted(scores, extrapolate=False)
    assert float(scale(torch.tensor(scores[-1]))) == pytest.approx(math.log(200), rel=1e-3)
    assert float(scale(torch.tensor(99.0))) == pytest.approx(math.log(200), rel=1e-3)
    assert float(scale(torch.tensor(scores[99]))) == pytest.approx(math.log(2), rel=1e-3)  # the median: half of them


def test_the_low_value_of_maps_is_zero() -> None:
    scale = fitted([4.0, 5.0, 6.0, 7.0], low=1.0)
    assert float(scale(torch.tensor(1.0))) == 0
    assert float(scale(torch.tensor(0.0))) < 0


def test_scores_of_other_units_come_out_the_same() -> None:
    scores = np.random.default_rng(2).gamma(2.0, size=50)
    places = torch.linspace(-1, 12, 30)
    np.testing.assert_allclose(
        fitted((1000 * scores - 7).tolist())(1000 * places - 7), fitted(scores.tolist())(places), rtol=1e-4, atol=1e-4
    )
