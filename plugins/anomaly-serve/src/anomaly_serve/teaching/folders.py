"""Folders of this machine that are watched for images to teach from: below those alone that the service was given."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from anomaly_core import AnomalyError, DataError, described, inside
from anomaly_predict import Watch
from anomaly_serve.faults import Unusable
from anomaly_serve.teaching.image_set import ImageSet
from anomaly_serve.teaching.members import Kind, Refused

INTERVAL = 2.0  # seconds between two looks
MOST_SHOWN = 500  # folders that are offered
DEPTH = 4  # of them below what was given
KEPT = 20  # refusals that are remembered
KEY = "teach/watched"
log = logging.getLogger("anomaly_core.serve")


class State(Protocol):
    """What is needed of the store."""

    def keep_state(self, key: str, value: dict[str, Any]) -> None: ...
    def state(self, key: str) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class Place:
    """A folder by the number of the one that was given, and the path below it with ``/``."""

    root: int
    below: str = ""


@dataclass
class Watched:
    """What a product watches, and what came of it since the service began."""

    place: Place
    kind: Kind
    taken: int = 0
    again: int = 0
    refused: deque[Refused] = field(default_factory=lambda: deque(maxlen=KEPT))
    trouble: str = ""
    watch: Watch | None = None


class Folders:
    """The folders that may be watched, and those that are, one a product; a restart goes on with them.

    Args:
        roots: absolute; nothing outside of them is read, whatever links lead there.
        state: remembers what is watched.
        draft: the set that a product's images go to.
    """

    def __init__(self, roots: Sequence[Path], state: State, draft: Any) -> None:
        self.roots = tuple(roots)
        self._state, self._draft = state, draft
        self._watched: dict[str, Watched] = {}
        self._lock = threading.RLock()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="teach-folders", daemon=True)

    def start(self) -> None:
        """Go on with what was watched."""
        if not self.roots:
            return
        for product, facts in (self._state.state(KEY) or {}).items():
            with suppress(TypeError, KeyError):  # the folders were given in another way since: nothing is watched then
                place = Place(**facts["place"])
                if place.root < len(self.roots):
                    self._watched[product] = Watched(place, facts["kind"])
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def places(self) -> list[tuple[Place, str]]:
        """Folders that may be watched, with the name that a person sees, which says nothing of the way to the given ones."""
        found: list[tuple[Place, str]] = []
        for number, root in enumerate(self.roots):
            for folder, names, _ in os.walk(root):
                below = Path(folder).relative_to(root)
                names[:] = sorted(name for name in names if not name.startswith(".")) if len(below.parts) < DEPTH else []
                found.append((Place(number, below.as_posix().removeprefix(".")), "/".join((root.name or "/", *below.parts))))
                if len(found) >= MOST_SHOWN:
                    return found
        return found

    def watch(self, product: str, place: Place, kind: Kind) -> None:
        """Take the images of a folder into the product's draft, those that are there and those that come."""
        self._path(place)
        with self._lock:
            self._watched[product] = Watched(place, kind)
            self._keep()

    def leave(self, product: str) -> None:
        """Watch no longer; what was taken stays."""
        with self._lock:
            if self._watched.pop(product, None) is not None:
                self._keep()

    def watched(self, product: str) -> Watched | None:
        """What a product watches; None if nothing."""
        with self._lock:
            return self._watched.get(product)

    def look(self) -> None:
        """Look once at each folder, and take what is complete."""
        with self._lock:
            pairs = list(self._watched.items())
        for product, one in pairs:
            try:
                root, folder = self.roots[one.place.root], self._path(one.place)
                one.watch = one.watch or Watch(folder)
                ready, one.trouble = one.watch.poll(), ""
            except (AnomalyError, OSError) as error:
                one.trouble = f"the folder cannot be read now: {error.strerror if isinstance(error, OSError) else error}"
                continue
            draft: ImageSet = self._draft(product)
            for path in ready:
                if self._ends.is_set() or self.watched(product) is not one:
                    break
                self._take(one, draft, root, path)

    def _take(self, one: Watched, draft: ImageSet, root: Path, path: Path) -> None:
        name = path.name
        try:
            inside(root, path.relative_to(root).as_posix())
        except (OSError, ValueError):
            one.refused.append(Refused(name, "it is a link that leads out of the folder"))
            return
        taken = draft.take_file(one.kind, path, name)
        if isinstance(taken, Refused):
            if one.watch is None or not one.watch.postponed(path):
                one.refused.append(taken)
        elif taken.again:
            one.again += 1
        else:
            one.taken += 1

    def _path(self, place: Place) -> Path:
        """The folder of a place; Unusable or DataError if it may not be watched, or is not there."""
        if not self.roots:
            raise Unusable("no folder of this machine may be watched. Start the service with --teach-from DIR.")
        try:
            folder = inside(self.roots[place.root], place.below)
        except (IndexError, OSError) as error:
            raise Unusable("this folder may not be watched. Choose one of the list.") from error
        if not folder.is_dir():
            raise DataError("this folder is not there any more. Choose another one.")
        return folder

    def _keep(self) -> None:
        known = {product: {"place": asdict(one.place), "kind": one.kind} for product, one in self._watched.items()}
        self._state.keep_state(KEY, known)

    def _loop(self) -> None:
        while not self._ends.wait(INTERVAL):
            try:
                self.look()
            except Exception as error:  # of whatever kind: the next look may go better
                log.exception("the watched folders: %s", described(error))
