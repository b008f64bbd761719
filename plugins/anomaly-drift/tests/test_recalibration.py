"""A threshold from recent images: as good as one from images that are known to be good, though some are defects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anomaly_core import Calibration, ConfigError, DataError
from anomaly_drift import recalibrated


def calibration(scores: np.ndarray, rate: float = 0.01, **options: Any) -> Calibration:
    values = tuple(np.sort(scores).tolist())
    return Calibration(None, rate, len(values), "normal images", scores=values, **options).at_rate(rate)


@pytest.mark.parametrize("share", [0.0, 0.04, 0.1])
def test_false_alarms_are_as_few_as_asked_for_whatever_the_share_of_defects(share: float) -> None:
    rates, found = [], []
    for seed in range(30):
        draw = np.random.default_rng(seed)
        recent = 3 + 1.5 * draw.gamma(4, size=300)
        is_bad = draw.random(300) < share
        recent[is_bad] += 1.5 * draw.uniform(8, 40, is_bad.sum())
        proposal = recalibrated(calibration(draw.gamma(4, size=200)), recent.tolist(), defects=0.15)
        assert proposal.calibration is not None and proposal.missing == 0
        assert sorted(proposal.kept + proposal.left_out) == list(range(300))
        fresh = 3 + 1.5 * draw.gamma(4, size=5000)
        rates.append(np.mean(fresh > proposal.calibration.threshold))
        found.append(is_bad[list(proposal.left_out)].sum() / max(is_bad.sum(), 1))
    assert np.mean(rates) < 0.015 and np.quantile(rates, 0.9) < 0.03
    assert share == 0 or np.mean(found) > 0.7


def test_one_odd_image_among_the_old_ones_does_not_let_defects_in() -> None:
    draw = np.random.default_rng(3)
    old, recent = draw.gamma(4, size=200), draw.gamma(4, size=300)
    old[7], recent[:6] = 80.0, 50.0
    proposal = recalibrated(calibration(old), recent.tolist())
    assert set(range(6)) <= set(proposal.left_out)
    assert proposal.calibration is not None and proposal.calibration.threshold < 25


def test_the_threshold_of_the_maps_comes_with_it() -> None:
    draw = np.random.default_rng(1)
    old, new = draw.gamma(4, size=200), 2 + draw.gamma(4, size=200)
    before = calibration(old, map_maxima=tuple(np.sort(old).tolist()))
    after = recalibrated(before, new.tolist(), new.tolist()).calibration
    assert after is not None and after.map_threshold == after.threshold and len(after.map_maxima) > 150
    kept = recalibrated(before, new.tolist())
    assert kept.calibration is not None and kept.calibration.map_threshold == before.map_threshold
    assert kept.warning is not None and "threshold of the maps" in kept.warning
    assert Calibration.from_dict(after.to_dict()) == after


def test_what_is_left_out_is_said_with_what_it_would_change() -> None:
    draw = np.random.default_rng(6)
    recent = [*draw.gamma(4, size=195).tolist(), 50.0, 51.0, 52.0, 53.0, 54.0]
    proposal = recalibrated(calibration(draw.gamma(4, size=200)), recent)
    assert proposal.left_out == (195, 196, 197, 198, 199) and proposal.calibration is not None
    assert proposal.warning is not None and "ought to be 53" in proposal.warning  # the 199th of 200


def test_half_defects_are_told_though_nothing_stands_out() -> None:
    draw = np.random.default_rng(8)
    recent = draw.gamma(4, size=200)
    old = calibration(draw.gamma(4, size=200))
    assert recalibrated(old, recent.tolist()).warning is None
    recent[:100] += 20
    proposal = recalibrated(old, recent.tolist())
    assert proposal.calibration is not None and not proposal.left_out
    assert proposal.warning is not None and "99 of these 200 images are anomalous by the old threshold" in proposal.warning


def test_too_few_images_say_how_many_are_missing() -> None:
    draw = np.random.default_rng(2)
    proposal = recalibrated(calibration(draw.gamma(4, size=200)), draw.gamma(4, size=60).tolist())
    assert proposal.calibration is None and proposal.missing == 39 and "39 more images" in proposal.words


def test_more_than_may_be_defects_is_no_proposal() -> None:
    draw = np.random.default_rng(3)
    recent = draw.gamma(4, size=300)
    recent[:90] += 40
    proposal = recalibrated(calibration(draw.gamma(4, size=200)), recent.tolist())
    assert proposal.calibration is None and len(proposal.left_out) >= 80 and "Sort good ones by hand" in proposal.words


def test_nothing_to_compare_with_and_damaged_scores() -> None:
    old = calibration(np.random.default_rng(4).gamma(4, size=200))
    with pytest.raises(DataError, match="anomaly threshold RUN --from DIR"):
        recalibrated(Calibration(None, 0.01, 0, "none"), [1.0] * 200)
    with pytest.raises(DataError, match="NaN"):
        recalibrated(old, [float("nan")] * 200)
    with pytest.raises(DataError, match="one of each"):
        recalibrated(old, [1.0] * 200, [1.0])
    for options in ({"rate": 0.0}, {"rate": 1.0}, {"defects": 0.5}, {"defects": -0.1}):
        with pytest.raises(ConfigError):
            recalibrated(old, [1.0] * 200, **options)
