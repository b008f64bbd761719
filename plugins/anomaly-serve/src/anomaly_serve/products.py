"""A product and its versions that are loaded: which of them judges, and by which settings."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

from anomaly_core import AnomalyError, ConfigError, Detector, InputSpec, described
from anomaly_serve.batching import Answer, Batcher, Lanes, Pixels
from anomaly_serve.faults import FilesRemoved, NotFound, NotReady, NoVersion
from anomaly_serve.records import Settings, Version

if TYPE_CHECKING:
    from anomaly_serve.store import Store

Opener = Callable[[Path], Detector]
MOST_LOADED = 2  # versions of a product that stay in memory beside the one that judges, such as the one before
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def require_name(name: str) -> str:
    """The name of a product, which stands in addresses; ConfigError if it cannot."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a product's name, which stands in addresses. Give letters, digits, dots, hyphens and "
            "underscores, at most 64, the first a letter or a digit."
        )
    return name


class Engine:
    """A detector and how images reach it, which ends when nobody uses it any more.

    Attributes:
        detector: of the version.
        in_place: whether images are scored in the threads that bring them.
    """

    def __init__(self, detector: Detector, way: Batcher | Lanes) -> None:
        self.detector = detector
        self.in_place = isinstance(way, Lanes)
        self._way = way
        self._users = 0
        self._retired = False
        self._lock = Lock()

    @classmethod
    def of(cls, detector: Any, name: str, callers: int, batched: Callable[[int, float], Any] | None = None) -> Engine:
        """In lanes, so many at once, where the detector can be divided among callers; else in batches."""
        several = detector.for_callers(callers) if callers > 1 and hasattr(detector, "for_callers") else None
        if several is None:
            return cls(detector, Batcher(detector, name, batched=batched))
        return cls(detector, Lanes(several, callers, detector, batched))

    def put(self, image: Pixels, done: Callable[[Answer], Any]) -> None:
        """Have an image scored that :meth:`enter` was called for; ``done`` gets the answer."""
        if isinstance(self._way, Lanes):
            self._way.put(image, done, is_alone=self._users == 1)
        else:
            self._way.put(image, done)

    @property
    def waiting(self) -> int:
        """Decoded images that wait to be scored."""
        return len(self._way)

    def enter(self) -> bool:
        """Begin to use it; False if it was retired."""
        with self._lock:
            self._users += not self._retired
            return not self._retired

    def leave(self) -> None:
        """End what :meth:`enter` began."""
        with self._lock:
            self._users -= 1
            ends = self._retired and not self._users
        if ends:
            self._way.close(wait=False)

    def retire(self) -> None:
        """Let nobody begin any more."""
        with self._lock:
            ends = not self._retired and not self._users
            self._retired = True
        if ends:
            self._way.close(wait=False)


@dataclass(frozen=True)
class LoadedVersion:
    """A version that can judge.

    Attributes:
        record, settings: as the store has them.
        engine: its detector, and how images reach it.
    """

    record: Version
    settings: Settings
    engine: Engine

    @property
    def number(self) -> int:
        """The version's number."""
        return self.record.number

    @property
    def detector(self) -> Detector:
        """The detector."""
        return self.engine.detector

    @property
    def input_spec(self) -> InputSpec | None:
        """How an image becomes the detector's input, on which maps lie; None: they lie on the image itself."""
        return getattr(self.detector, "input_spec", None)

    @property
    def least_area(self) -> float:
        """Pixels that a region must have: of the settings, else the detector's own."""
        return own_regions(self.detector)[0] if self.settings.least_area is None else self.settings.least_area


def own_regions(detector: Any) -> tuple[float, float | None]:
    """``data.least_area`` and ``data.mm_per_px`` of the run behind a detector."""
    if (metadata := getattr(detector, "metadata", None)) is not None:  # of an exported file
        least, scale = metadata.regions
        return least, scale
    if (config := getattr(detector, "config", None)) is not None:  # of a run
        return config.data.least_area, config.data.mm_per_px
    return 0.0, None


class Product:
    """A product: its versions in the store, and those of them that are loaded.

    Attributes:
        name: of the product.
        fault: why its active version could not be loaded; empty if it was.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        opener: Opener,
        *,
        callers: int = 1,
        batched: Callable[[int, float], Any] | None = None,
    ) -> None:
        self.name = name
        self.fault = ""
        self._callers = callers
        self._store = store
        self._opener = opener
        self._batched = batched
        self._active: int | None = None
        self._loaded: OrderedDict[int, LoadedVersion] = OrderedDict()  # the one that was used last comes last
        self._lock = RLock()  # of what is loaded
        self._loading = Lock()  # one version at a time

    @property
    def active(self) -> LoadedVersion | None:
        """The version that judges; None without one, or where it could not be loaded."""
        with self._lock:
            return None if self._active is None else self._loaded.get(self._active)

    @property
    def waiting(self) -> int:
        """Images that wait for a detector of this product."""
        with self._lock:
            return sum(one.engine.waiting for one in self._loaded.values())

    def versions(self) -> list[Version]:
        """All versions, as the store has them."""
        return self._store.versions(self.name)

    def loaded(self, number: int | None = None) -> LoadedVersion | None:
        """The active version, or the one of this number, if it is loaded."""
        with self._lock:
            number = self._active if number is None else number
            found = None if number is None else self._loaded.get(number)
            if found is not None:
                self._loaded.move_to_end(found.number)
            return found

    def load(self, number: int, detector: Detector | None = None) -> LoadedVersion:
        """A version, loaded unless it is already; takes as long as that takes.

        Raises:
            NotFound: there is no such version.
            FilesRemoved: the service has removed its files.
            NotReady: it cannot be opened; the message does not show where it lies.
        """
        with self._loading:
            if (found := self.loaded(number)) is not None:
                return found
            record = self._store.version(self.name, number)
            if record is None:
                raise NotFound(f"{self.name!r} has no version {number}. GET /v1/products/{self.name}/versions lists them.")
            if record.removal:
                raise FilesRemoved(record)
            settings = self._store.settings(self.name, number)[-1]
            detector = detector or self._opened(record)
            engine = Engine.of(detector, f"{self.name}-{number}", self._callers, self._batched)
            version = LoadedVersion(record, settings, engine)
            with self._lock:
                self._loaded[number] = version
                self._evict()
            return version

    def unload(self, number: int) -> None:
        """Let a version go that does not judge; what it holds is still scored."""
        with self._loading, self._lock:
            if number != self._active and number in self._loaded:
                self._loaded.pop(number).engine.retire()

    def activate(self, number: int | None) -> bool:
        """Have a loaded version judge, or none; False if it is not loaded."""
        with self._lock:
            if number is not None and number not in self._loaded:
                return False
            self._active = number
            if number is not None:
                self.fault = ""
                self._loaded.move_to_end(number)
            for own, version in self._loaded.items():
                self._loaded[own] = replace(version, record=replace(version.record, is_active=own == number))
            self._evict()
            return True

    def restore(self) -> None:
        """Load the version that the store has as active; what prevents it is kept as :attr:`fault`."""
        record = self._store.active(self.name)
        if record is None:
            return
        try:
            self.load(record.number)
        except AnomalyError as error:
            self.fault = str(error)
        else:
            self.activate(record.number)

    def settle(self, settings: Settings, number: int) -> None:
        """Have a version judge by new settings from now on."""
        with self._lock:
            if number in self._loaded:
                self._loaded[number] = replace(self._loaded[number], settings=settings)

    def enter(self, number: int | None) -> LoadedVersion | None:
        """A loaded version for use until its engine's ``leave``; None if it is not loaded.

        Raises:
            NoVersion, NotReady: the active one is asked for, and there is none, or it could not be loaded.
        """
        while True:
            version = self.loaded(number)
            if version is None and number is None:
                if self.fault:
                    raise NotReady(self.fault)
                raise NoVersion(
                    f"the product {self.name!r} has no version that judges. Teach one on the page, or choose one of its "
                    f"versions: POST /v1/products/{self.name}/activate."
                )
            if version is None or version.engine.enter():
                return version

    def close(self) -> None:
        """Let all versions go; what they hold is still scored."""
        with self._lock:
            for version in self._loaded.values():
                version.engine.retire()
            self._loaded.clear()
            self._active = None

    def _opened(self, record: Version) -> Detector:
        path = Path(record.path)
        try:
            return self._opener(path)
        except Exception as error:  # of engines and methods, whatever they raise
            reason = str(error) if isinstance(error, AnomalyError) else described(error)
            for place in (path, path.parent):  # answers go to strangers
                reason = reason.replace(str(place), place.name)
            raise NotReady(f"version {record.number} of {self.name!r} cannot be loaded: {reason}") from error

    def _evict(self) -> None:
        spare = [number for number in self._loaded if number != self._active]
        for number in spare[: max(0, len(spare) - MOST_LOADED)]:
            self._loaded.pop(number).engine.retire()


def first_settings(detector: Detector) -> dict[str, Any]:
    """The settings that a new version begins with: the detector's own."""
    return {"calibration": detector.calibration, "least_area": None}
