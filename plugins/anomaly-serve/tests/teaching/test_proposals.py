"""A threshold that recent images propose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly_core import Calibration, RunError
from anomaly_serve.records import Judgement, Settings
from anomaly_serve.teaching.proposals import Proposed, proposed, recent


def verdict(number: int, score: float, **changes: object) -> Judgement:
    one = Judgement(f"{number:026}", "disc", 3, number, "http", f"shot {number}", score, None, 2.0, score > 2.0, (4, 4))
    return replace(one, **changes)  # type: ignore[arg-type]


@pytest.fixture
def settings() -> Settings:
    scores = tuple(np.linspace(0.0, 2.0, 200).tolist())
    calibration = Calibration(None, 0.02, 200, "200 images", scores=scores, map_maxima=scores).at_rate(0.02)
    return Settings(4, calibration, 12.0, 0.0, "anna", "first")


def test_what_stands_out_is_left_out_and_shown(settings: Settings) -> None:
    draw = np.random.default_rng(0)
    judgements = [verdict(number, float(score)) for number, score in enumerate(draw.uniform(1.0, 3.0, 120))]
    judgements[17] = verdict(17, 40.0)
    found = proposed(judgements, settings, [one.score for one in judgements])
    assert found.calibration is not None and found.calibration.threshold is not None
    assert 2.5 < found.calibration.threshold < 4.0 < 40.0
    assert [one.id for one in found.left_out] == [judgements[17].id]
    old, new = found.old_threshold, found.calibration.threshold
    assert old == settings.calibration.threshold and old is not None
    assert {one.id for one in found.changes} == {one.id for one in judgements if (one.score > old) != (one.score > new)}
    assert (found.version, found.settings, found.count) == (3, 4, 120)
    assert Proposed.from_dict(found.to_dict()) == found


def test_odd_images_behind_the_old_threshold_are_told(settings: Settings) -> None:
    scores = (*settings.calibration.scores[:-1], 60.0)
    spoilt = replace(settings.calibration, scores=scores).at_rate(0.02)
    judgements = [verdict(number, 1.0 + number / 100) for number in range(120)]
    found = proposed(judgements, replace(settings, calibration=spoilt), None)
    assert found.warning is not None and "1 of the normal images behind the old threshold stand out" in found.warning


def test_too_few_images_propose_nothing(settings: Settings) -> None:
    found = proposed([verdict(number, 1.0) for number in range(10)], settings, None)
    assert found.calibration is None and "more images are needed" in found.words and found.changes == ()
    with pytest.raises(RunError, match="judged no image yet"):
        proposed([], settings, None)


def test_what_a_person_called_a_defect_is_not_asked() -> None:
    rows = [verdict(4, 3.0, mark="confirmed"), verdict(3, 1.0, mark="confirmed"), verdict(2, 1.0, mark="missed")]
    rows += [verdict(1, 3.0, mark="fine"), verdict(0, 1.0)]

    class Store:
        def judgements(self, product: str, **options: object) -> list[Judgement]:
            return rows

    assert [one.time for one in recent(Store(), "disc", 3, 10)] == [3, 1, 0]
    assert [one.time for one in recent(Store(), "disc", 3, 2)] == [3, 1]
