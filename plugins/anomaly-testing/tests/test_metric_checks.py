"""Each check of metrics can fail: a metric that is right but for one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anomaly_core import MetricSpec
from anomaly_testing import check_component, checks_of

SOURCE = """
import torch
from anomaly_core import BaseMetric, UndefinedMetric

class Metric(BaseMetric):
    def __init__(self, calibration=None):
        super().__init__(calibration)
        self.good, self.bad = [], []

    def update(self, batch, prediction):
        self.good += prediction.scores[batch.labels == 0].tolist()
        self.bad += prediction.scores[batch.labels == 1].tolist()

    def compute(self):
        if not self.good or not self.bad:
            raise UndefinedMetric("one class has no image")
        return sum(sorted(self.bad)) / len(self.bad) - sum(sorted(self.good)) / len(self.good)
"""
# check, the line that is replaced, what stands there instead, words of the reason
BROKEN = [
    ("tells_good_from_bad", "- sum(sorted(self.good))", "* 0 + sum(sorted(self.good))", "higher_is_better"),
    ("any_batching", "+= prediction.scores[batch.labels == 1]", "= prediction.scores[batch.labels == 1]", "in four"),
    ("asked_again", "return sum", "self.good.append(0.5); return sum", "asked twice"),
    ("asked_again", "self.good += prediction", "prediction.maps.zero_(); self.good += prediction", "changed what it was fed"),
    (
        "undefined_with_a_reason",
        'raise UndefinedMetric("one class has no image")',
        'return float("nan")',
        "UndefinedMetric",
    ),
    (
        "judges_its_level",
        "+= prediction.scores[batch.labels == 1].tolist()",
        "+= (prediction.scores + (0 if prediction.maps is None else 1))[batch.labels == 1].tolist()",
        "its level is 'image'",
    ),
]
FIELDS = [
    ({"level": "picture"}, "choose one of image, pixel, reconstruction"),
    ({"prominence": "loud"}, "choose one of headline, table, detail"),
    ({"title": "A title that is far too long for a column of a table"}, "at most 32 characters"),
]


def spec(modules, old: str = "", new: str = "") -> MetricSpec:
    return MetricSpec(target=f"{modules(SOURCE, old, new)}:Metric", summary="the distance of two means")


def test_a_sound_metric_passes_every_check(modules) -> None:
    results = check_component(spec(modules), "metric")
    assert [outcome.check for outcome in results] == list(checks_of("metric"))
    assert {outcome.status for outcome in results} == {"passed"}


@pytest.mark.parametrize(("check", "old", "new", "words"), BROKEN, ids=[f"{i}-{row[0]}" for i, row in enumerate(BROKEN)])
def test_a_broken_metric_fails(modules, fails, check: str, old: str, new: str, words: str) -> None:
    fails(spec(modules, old, new), check, words)


@pytest.mark.parametrize(("fields", "words"), FIELDS)
def test_a_spec_that_no_table_can_show_fails(modules, fails, fields: dict[str, str], words: str) -> None:
    fails(replace(spec(modules), **fields), "says_where_it_stands", words)


@pytest.mark.parametrize("level", ["pixel", "reconstruction"])
def test_a_metric_of_scores_that_claims_another_level_fails(modules, fails, level: str) -> None:
    fails(replace(spec(modules), level=level), "judges_its_level", f"its level is '{level}'")


def test_every_check_is_proved_to_fail(common: set[str]) -> None:
    assert set(checks_of("metric")) == {check for check, *_ in BROKEN} | {"says_where_it_stands"} | common
