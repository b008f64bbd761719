"""The service's watch on drift: a monitor for each version that judges, whose alarms and state the store keeps."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from anomaly_core import AnomalyError, Calibration
from anomaly_drift import DriftMonitor, Reference
from anomaly_serve.judging import Scored
from anomaly_serve.records import Judgement, Settings

if TYPE_CHECKING:
    from anomaly_serve.incoming import Pixels
    from anomaly_serve.service import Service

EVERY = 10.0  # seconds between two times that a monitor's state is kept: what a sudden end may cost


@dataclass
class _Watched:
    """The monitor of a version under one of its settings."""

    monitor: DriftMonitor
    settings: int
    kept: float = 0.0  # when its state was kept
    changed: bool = False


class Drifting:
    """A listener of the service (:attr:`Service.listeners`): alarms go into the store, and states every ten seconds.

    Each version has a monitor of its own. It goes on where it was when the service starts again. Under new settings it begins
    anew: by the facts of the images that set the threshold, or, where the threshold rests on other scores than before, as
    after a recalibration, by those of the last images, which are what is usual now.

    Args:
        service: whose images are watched.
        per_10000: false alarms that are allowed in 10,000 images of a version.
    """

    def __init__(self, service: Service, per_10000: float = 1.0) -> None:
        self._service, self._per_10000 = service, per_10000
        self._watched: dict[tuple[str, int], _Watched] = {}
        self._lock = Lock()

    def __enter__(self) -> Drifting:
        self._service.listeners.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._service.listeners.remove(self)
        self.keep()

    def __call__(self, scored: Scored, image: Pixels) -> None:
        """Take in a verdict that was committed, by its facts: every image has them, and is not looked at again."""
        one = scored.judgement
        with self._lock:
            watched = self._of(one)
            if watched is None:
                return
            name = f"{one.name} {one.id}".strip()
            alarm = watched.monitor.update(one.p_value, one.facts, one.time, name, one.is_anomalous)
            watched.changed = True
            if alarm is not None:
                since = one.time if alarm.since is None else alarm.since
                told = {**alarm.to_dict(), "id": one.id, "since_id": alarm.since_id.rpartition(" ")[2]}
                self._service.store.add_alarm(one.product, one.version, alarm.text, told, since=since, moment=one.time)
            if alarm is not None or time.monotonic() - watched.kept >= EVERY:
                self._keep((one.product, one.version), watched)

    def keep(self) -> None:
        """Keep the state of every monitor that has seen an image since it was kept."""
        with self._lock:
            for key, watched in self._watched.items():
                if watched.changed:
                    self._keep(key, watched)

    def state(self, product: str, version: int) -> dict[str, Any] | None:
        """What a page shows of a monitor: images, alarms, and whether it still learns; None before an image came."""
        with self._lock:
            watched = self._watched.get((product, version))
            if watched is None:
                return None
            monitor = watched.monitor
            return {"images": monitor.count, "alarms": monitor.alarms, "learns": monitor.is_learning, "learn": monitor.learn}

    def _of(self, one: Judgement) -> _Watched | None:
        """The monitor for a verdict; None where another one came later, under newer settings."""
        key = (one.product, one.version)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = self._restored(key) or self._begun(one, None)
        if watched.settings > one.settings:
            return None
        if watched.settings < one.settings:
            watched = self._watched[key] = self._begun(one, watched)
        return watched

    def _restored(self, key: tuple[str, int]) -> _Watched | None:
        kept = self._service.store.state(_name(key))
        if kept is None:
            return None
        try:
            return _Watched(DriftMonitor.restore(kept["monitor"]), int(kept["settings"]))
        except (AnomalyError, KeyError, TypeError, ValueError):  # of another version of this program: it learns again
            return None

    def _begun(self, one: Judgement, before: _Watched | None) -> _Watched:
        """A new monitor, after the one that watched under other settings, if there was one."""
        store = self._service.store
        all_settings = {settings.number: settings for settings in store.settings(one.product, one.version)}
        calibration = _calibration(all_settings, one.settings)
        former = None if before is None else _calibration(all_settings, before.settings)
        version = store.version(one.product, one.version)
        if before is not None and former is not None and former.scores != calibration.scores:
            reference = Reference.of(calibration, before.monitor.recent_facts())
        elif version is not None:
            try:
                reference = Reference.near(version.path, calibration)
            except AnomalyError as error:
                warnings.warn(f"drift of {one.product!r}: {error}", stacklevel=2)
                reference = Reference(calibration)
        else:
            reference = Reference(calibration)
        return _Watched(DriftMonitor(reference, self._per_10000), one.settings)

    def _keep(self, key: tuple[str, int], watched: _Watched) -> None:
        self._service.store.keep_state(_name(key), {"settings": watched.settings, "monitor": watched.monitor.state()})
        watched.kept, watched.changed = time.monotonic(), False


def _calibration(settings: Mapping[int, Settings], number: int) -> Calibration:
    return settings[number].calibration


def _name(key: tuple[str, int]) -> str:
    product, version = key
    return f"drift/{product}/{version}"
