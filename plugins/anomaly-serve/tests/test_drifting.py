"""Drift on a running service: an alarm in the store, a monitor that outlives a restart, and new settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly_core import Calibration
from anomaly_drift import recalibrated
from anomaly_serve.drifting import Drifting
from anomaly_serve.service import Service, ServiceOptions
from anomaly_serve.store import Store
from anomaly_serve.testing import BrightSpots


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(None, tmp_path)
    yield store
    store.close()


def image_of(number: int, light: float = 1.0) -> NDArray[np.uint8]:
    """A grey image of that light."""
    draw = np.random.default_rng(number)
    grey = 120 * light + 4 * draw.standard_normal((32, 32, 1)) + draw.standard_normal()
    return np.repeat(np.clip(grey, 0, 255), 3, axis=2).astype(np.uint8)


class Taught(BrightSpots):
    """A detector whose threshold was set by such images."""

    def __init__(self) -> None:
        super().__init__()
        scores = tuple(sorted(self.predict(image_of(number)).score for number in range(1000, 1099)))
        self.calibration = Calibration(None, 0.01, 99, "99 images", scores=scores).at_rate(0.01)


def service_of(store: Store) -> Service:
    return Service(store, ServiceOptions(opener=lambda path: Taught()))


def shown(service: Service, count: int, *, light: float = 1.0, first: int = 0) -> list[float]:
    """Score images; returns their scores, in order."""
    answers = (service.score("bolt", image_of(n, light), name=str(n), keep=False) for n in range(first, first + count))
    scores = [answer.result(10).judgement.score for answer in answers]
    while service.in_work:  # the listeners are told after the answer
        time.sleep(0.001)
    return scores


def test_a_brighter_lamp_is_an_alarm_in_the_store(store: Store, tmp_path: Path) -> None:
    service = service_of(store)
    with Drifting(service) as drifting, service:
        service.add_version("bolt", tmp_path, who="test", activate=True)
        shown(service, 150)
        assert store.alarms("bolt") == []
        shown(service, 30, light=1.3, first=150)
    (alarm,) = store.alarms("bolt", open_only=True)
    assert "brighter" in alarm.text and alarm.version == 1 and alarm.since <= alarm.time
    first = store.judgement(alarm.facts["since_id"])
    assert first is not None and 149 <= int(first.name) <= 152  # ties are broken by chance
    assert (first.facts["brightness"] > 140) is (int(first.name) >= 150)
    state = drifting.state("bolt", 1)
    assert state is not None and state["images"] == 180 and state["alarms"] == 1 and drifting.state("bolt", 2) is None


def test_a_monitor_goes_on_after_a_restart(store: Store, tmp_path: Path) -> None:
    for first in (0, 60):
        service = service_of(store)
        with Drifting(service) as drifting, service:
            if not first:
                service.add_version("bolt", tmp_path, who="test", activate=True)
            shown(service, 60, first=first)
    state = drifting.state("bolt", 1)
    assert state is not None and state["images"] == 120 and not state["learns"]
    store.keep_state("drift/bolt/1", {"of": "another version"})
    service = service_of(store)
    with Drifting(service) as drifting, service:
        shown(service, 1)
    state = drifting.state("bolt", 1)
    assert state is not None and state["images"] == 1


def test_new_settings_begin_a_new_monitor_and_a_recalibrated_one_knows_the_last_images(store: Store, tmp_path: Path) -> None:
    service = service_of(store)
    with Drifting(service) as drifting, service:
        service.add_version("bolt", tmp_path, who="test", activate=True)
        scores = shown(service, 120)
        old = service.products["bolt"].active
        assert old is not None
        service.apply_settings("bolt", 1, old.settings.calibration.with_threshold(9.0), None, "ann", "too many misses")
        shown(service, 1)
        state = drifting.state("bolt", 1)
        assert state is not None and state["images"] == 1 and state["learns"]
        shown(service, 40)
        proposal = recalibrated(old.settings.calibration, scores, rate=0.05)
        assert proposal.calibration is not None
        service.apply_settings("bolt", 1, proposal.calibration, None, "ann", "recalibrated")
        shown(service, 1)
    state = drifting.state("bolt", 1)
    assert state is not None and state["images"] == 1 and not state["learns"]
