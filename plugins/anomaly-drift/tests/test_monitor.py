"""A monitor is quiet on a steady line, defects included, and tells what has changed and since when."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from anomaly_core import ConfigError
from anomaly_drift import DriftAlarm, DriftMonitor, Reference


def fed(monitor: DriftMonitor, stream: Any) -> list[DriftAlarm]:
    """The alarms of a stream."""
    return [alarm for one in stream if (alarm := monitor.update(**one)) is not None]


@pytest.mark.parametrize("count", [50, 200, 650])
def test_no_more_false_alarms_than_are_allowed(count: int, line: Callable[..., Any]) -> None:
    """At 100 in 10,000, false alarms are at least 100 images apart on average, whatever luck a calibration has."""
    alarms, images = 0, 0
    for seed in range(15):
        one = line(seed, count)
        monitor = DriftMonitor(Reference.of(one.calibration, one.images), 100.0)
        alarms += len(fed(monitor, one.stream(300, defects=0.04)))
        images += 300
    assert alarms <= images / 100


@pytest.mark.parametrize("side", [-1, 1])
def test_defects_that_all_look_alike_raise_none_either(side: int, line: Callable[..., Any]) -> None:
    alarms, images = 0, 0
    for seed in range(8):
        one = line(seed, 50)
        monitor = DriftMonitor(Reference.of(one.calibration, one.images), 100.0)
        for each in one.stream(300):
            if one.random.random() < 0.05:
                facts = {name: value * (1 + 0.9 * side) for name, value in each["facts"].items()}
                each |= {"p_value": 1 / 51, "is_anomalous": True, "facts": facts}
            alarms += monitor.update(**each) is not None
            images += 1
    assert alarms <= images / 100


def test_a_cross_fitted_calibration_whose_scores_are_too_high_raises_none(line: Callable[..., Any]) -> None:
    one = line(1, 100, "leave_one_out")
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    assert not fed(monitor, one.stream(600, score=-0.7, defects=0.04))
    held_out = line(1, 100)  # of which they would be a change
    assert fed(DriftMonitor(Reference.of(held_out.calibration)), held_out.stream(600, score=-1.5))


@pytest.mark.parametrize("learns", [False, True])
def test_brighter_images_are_told_within_thirty(learns: bool, line: Callable[..., Any]) -> None:
    one = line(2)
    monitor = DriftMonitor(Reference.of(one.calibration, [] if learns else one.images))
    assert not fed(monitor, one.stream(300, defects=0.04)) and not monitor.is_learning
    (alarm,) = fed(monitor, one.stream(60, light=1.15, score=2.0, defects=0.04))
    assert 301 < alarm.number <= 330 and 296 <= alarm.since_number <= 303
    assert alarm.kind == "threshold" and "brighter" in alarm.text and f"since image {alarm.since_number}" in alarm.text
    assert alarm.facts["changes"]["brightness"] == pytest.approx(0.15, abs=0.06)
    assert monitor.is_learning and monitor.alarms == 1


def test_an_alarm_after_a_few_images_mostly_names_its_cause(line: Callable[..., Any]) -> None:
    named, after = 0, []
    for seed in range(20):
        one = line(seed)
        monitor = DriftMonitor(Reference.of(one.calibration, one.images))
        fed(monitor, one.stream(50))
        alarm = fed(monitor, one.stream(20, light=1.12, score=6.0))[0]
        after.append(alarm.number - 50)
        named += "brighter" in alarm.text
        assert ("explains" in alarm.text) is ("images are" not in alarm.text)
    assert max(after) <= 6 and named >= 15  # 11 by the evidence that an alarm on brightness needs


def test_the_next_alarm_tells_that_images_are_again_as_at_first(line: Callable[..., Any]) -> None:
    one = line(3)
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    assert [alarm.kind for alarm in fed(monitor, one.stream(200, light=1.3))] == ["threshold"]
    (back,) = fed(monitor, one.stream(60))
    assert back.kind == "return" and "again" in back.text and 195 <= back.since_number <= 205


def test_and_that_scores_are(line: Callable[..., Any]) -> None:
    one = line(10)
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    assert [alarm.kind for alarm in fed(monitor, one.stream(250, score=2.5))] == ["threshold"]
    (back,) = fed(monitor, one.stream(60))
    assert back.kind == "return" and back.facts["series"] == "p_value"


def test_more_defects_are_an_alarm_of_their_own(line: Callable[..., Any]) -> None:
    one = line(4)
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    assert not fed(monitor, one.stream(300, defects=0.04))
    alarm = fed(monitor, one.stream(150, defects=0.3))[0]
    assert alarm.kind == "alarms" and alarm.text.startswith("more alarms than expected since image ")
    assert alarm.facts["anomalous"] > 0.1 * alarm.facts["images"] and not alarm.facts["changes"]


def test_scores_alone_are_told_too(line: Callable[..., Any]) -> None:
    one = line(5)
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    fed(monitor, one.stream(200))
    (alarm,) = fed(monitor, one.stream(100, score=1.5))
    assert alarm.kind == "threshold" and "score higher" in alarm.text and alarm.facts["series"] in ("p_value", "alarms")


def test_what_is_sure_but_small_is_no_alarm(line: Callable[..., Any]) -> None:
    one = line(6)
    for image in one.images:
        image["brightness"] = 100 + 0.01 * one.random.standard_normal()
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    for value, expected in ((100.5, 0), (104.0, 1)):
        stream = [{**each, "facts": {**each["facts"], "brightness": value}} for each in one.stream(80)]
        assert len(fed(monitor, stream)) == expected


def test_the_same_stream_gives_the_same_alarms_and_a_state_goes_on(line: Callable[..., Any]) -> None:
    one = line(7)
    stream = [*one.stream(150), *one.stream(60, light=1.2), *one.stream(200, light=1.2, defects=0.3)]
    whole = DriftMonitor(Reference.of(one.calibration, one.images))
    alarms = fed(whole, stream)
    broken, others = DriftMonitor(Reference.of(one.calibration, one.images)), []
    for place in range(0, len(stream), 70):
        broken = DriftMonitor.restore(json.loads(json.dumps(broken.state())))
        others += fed(broken, stream[place : place + 70])
    assert len(alarms) >= 2 and [alarm.to_dict() for alarm in others] == [alarm.to_dict() for alarm in alarms]
    assert len(json.dumps(whole.state())) < 200_000


def test_images_without_verdict_or_facts_are_taken(line: Callable[..., Any]) -> None:
    one = line(8)
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    assert monitor.update(None, one.facts()) is None and monitor.update(0.5) is None
    assert monitor.update(np.nan, {"brightness": np.nan}, 12.0, "x") is None and monitor.count == 3


def test_times_are_told_as_times_of_day(line: Callable[..., Any]) -> None:
    one = line(9)
    monitor = DriftMonitor(Reference.of(one.calibration, one.images))
    noon = 1_790_000_000.0
    alarms = []
    for number, each in enumerate(one.stream(60, light=1.3)):
        alarms.append(monitor.update(**each, time=noon + number))
    (alarm,) = filter(None, alarms)
    assert "since image" not in alarm.text and alarm.since is not None and alarm.since - noon < 3


@pytest.mark.parametrize("options", [{"per_10000": 0}, {"per_10000": float("nan")}, {"defects": 0.5}, {"learn": 3}])
def test_options_that_make_no_sense(options: dict[str, Any], line: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"(?i)give"):
        DriftMonitor(Reference.of(line(1).calibration), **options)


@pytest.mark.parametrize("damage", [{"format": 2}, {"ranks": 3}, {"evidence": {"sums": [], "paths": [], "since": []}}])
def test_a_damaged_state_is_refused(damage: dict[str, Any], line: Callable[..., Any]) -> None:
    state = DriftMonitor(Reference.of(line(1).calibration)).state()
    with pytest.raises(ConfigError, match="Begin with a new one"):
        DriftMonitor.restore({**state, **damage})
