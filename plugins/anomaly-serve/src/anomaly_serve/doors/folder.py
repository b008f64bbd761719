"""Folder in, folder out: images that come into a folder are judged and moved to another one, by the verdict."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from anomaly_core import AnomalyError, ConfigError, DataError, described, open_untrusted
from anomaly_predict import Watch
from anomaly_serve.answers import verdict_json
from anomaly_serve.doors.asking import Service, ask, fault_of, not_ready, pause
from anomaly_serve.doors.moving import abandoned, clear, deliver, delivered
from anomaly_serve.records import Judgement

AT_ONCE = 8  # images that are being judged, so that a batch comes together
AGAIN = 10.0  # seconds until what failed through no fault of the image is tried again
REMEMBERED = 1000  # warnings, so that none is repeated
LARGEST = 1 << 28  # bytes of a file; the service's own limit is lower
VERDICT, REASON = ".json", ".txt"  # what is written beside an image is called as it is, with this added
_NOT_OURS = {errno.EACCES, errno.EPERM, None}  # of a file that may not be read, and of what is no regular file
log = logging.getLogger("anomaly_core.serve")
Mark = tuple[int, int]  # size and modification time


@dataclass(frozen=True)
class Folders:
    """Where images come in, and where they go.

    Attributes:
        watched: it and its subfolders are watched; subfolders are kept in the others.
        accept, reject: what was judged normal, and anomalous.
        failed: what cannot be read, each with a ``.txt`` that says why; None: it stays where it is.
    """

    watched: Path
    accept: Path
    reject: Path
    failed: Path | None = None

    def __post_init__(self) -> None:
        targets = [path for path in (self.accept, self.reject, self.failed) if path is not None]
        for path in targets:
            if path.resolve() == self.watched.resolve() or path.resolve().is_relative_to(self.watched.resolve()):
                raise ConfigError(
                    f"{str(path)!r} lies in the watched folder {str(self.watched)!r}, so that its images would come back. "
                    "Choose a folder beside it."
                )
        if len({path.resolve() for path in targets}) < len(targets):
            raise ConfigError("two of --accept, --reject and --failed are the same folder. Choose different ones.")

    @property
    def targets(self) -> list[Path]:
        """The folders that images go to."""
        return [path for path in (self.accept, self.reject, self.failed) if path is not None]


@dataclass(frozen=True)
class _Image:
    path: Path
    mark: Mark


@dataclass(frozen=True)
class _Move:
    """A verdict that is in the history, and the image that must follow it."""

    image: _Image
    target: Path
    notes: dict[str, str]


class FolderDoor:
    """Judges what comes into a folder, and moves it by the verdict once that is in the history.

    Killed at any moment, an image is still in the watched folder, or in one of the others; at worst it is judged twice, and
    the history has both verdicts. While a folder to move to is away, its verdicts are kept and nothing new is judged.

    Args:
        service: what judges.
        product: the product that the images are of.
        folders: where from and where to.
        sidecar: whether a ``.json`` with the verdict goes beside each image.
        interval: seconds between two looks.

    Attributes:
        judged, failed: images that were moved by their verdict, and that could not be read.

    Raises:
        DataError: the watched folder does not exist.
    """

    def __init__(
        self, service: Service, product: str, folders: Folders, *, sidecar: bool = False, interval: float = 1.0
    ) -> None:
        self.service, self.product, self.folders = service, product, folders
        self.sidecar, self.interval = sidecar, interval
        self.judged = self.failed = 0
        self._watch = Watch(folders.watched, interval)
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=f"folder-{product}", daemon=True)
        self._waiting: deque[Path] = deque()
        self._moves: deque[_Move] = deque()
        self._later: list[tuple[float, Path]] = []
        self._said: dict[str, None] = {}

    def __str__(self) -> str:
        accept, reject = str(self.folders.accept), str(self.folders.reject)
        return f"{self.product}: watches {str(self.folders.watched)!r}, and moves images to {accept!r} or {reject!r}"

    def start(self) -> None:
        """Begin, in a thread of its own."""
        for folder in self.folders.targets:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"cannot make the folder {str(folder)!r}: {error}. Choose another.") from error
            clear(folder)
        self._thread.start()

    def stop(self) -> None:
        """Take nothing more; what is being judged is moved."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._recover()
        except OSError as error:
            self._say(f"cannot compare {str(self.folders.watched)!r} with the folders it was moved to: {error}.")
        while not self._stopping.is_set():
            try:
                self._look()
            except Exception as error:  # of whatever kind: a door that closed itself would stop the line
                self._say(f"the watched folder {str(self.folders.watched)!r}: {described(error)}. It is looked at again.")
            self._stopping.wait(self.interval)

    def _recover(self) -> None:
        """Finish the moves that a killed process began: an image that is in both places leaves the watched folder; the verdict
        beside an image that did not come to it yet is removed, as the image is judged again."""
        for folder in self.folders.targets:
            for path in (one for one in self._watch.folder.rglob("*") if one.is_file()):
                target = self._target(folder, path)
                if there := delivered(path, target):
                    path.unlink()
                    log.warning("%r had been moved to %r before the last end.", str(path), str(there))
                    continue
                for note in abandoned(path, target, (VERDICT, REASON)):
                    note.unlink()

    def _look(self) -> None:
        reason = not_ready(self.service, self.product, threshold=True)
        if reason:
            self._say(f"{str(self.folders.watched)!r} waits: {reason}.")
            return
        self._forget(f"{str(self.folders.watched)!r} waits: ")
        for _ in range(len(self._moves)):
            self._move(self._moves.popleft())
        if self._moves:
            return
        now = time.monotonic()
        self._waiting.extend(path for due, path in self._later if due <= now)
        self._later = [(due, path) for due, path in self._later if due > now]
        self._waiting.extend(self._watch.poll())
        flight: deque[tuple[_Image, Future[Any]]] = deque()
        while flight or (self._waiting and not self._stopping.is_set() and not self._moves):
            while self._waiting and len(flight) < AT_ONCE and not self._stopping.is_set() and not self._moves:
                if (begun := self._begin(self._waiting.popleft())) is not None:
                    flight.append(begun)
            if flight:
                self._finish(*flight.popleft())

    def _begin(self, path: Path) -> tuple[_Image, Future[Any]] | None:
        try:
            with open_untrusted(path, LARGEST) as file:
                image = _Image(path, _mark(os.fstat(file.fileno())))
                content = file.read()
        except FileNotFoundError:  # somebody took it away
            return None
        except OSError as error:
            if error.errno in _NOT_OURS:
                self._cannot_read(path, DataError(f"{str(path)!r} cannot be read: {error}. Give an image file."))
            else:
                self._try_later(path, f"{str(path)!r} cannot be read at present: {error}.")
            return None
        return image, ask(self.service, self.product, content, self._name(path), "folder")

    def _finish(self, image: _Image, future: Future[Any]) -> None:
        try:
            judgement: Judgement = future.result().judgement
        except Exception as error:
            fault = fault_of(error)
            if fault == "busy":
                self._waiting.appendleft(image.path)
                pause(error, self._stopping)
            elif fault == "image":
                self._cannot_read(image.path, error)
            else:
                self._try_later(image.path, f"{str(image.path)!r} was not judged: {described(error)}.")
            return
        if judgement.is_anomalous is None:  # the version in use has no threshold any more
            self._try_later(image.path, f"{str(image.path)!r} has no verdict: there is no threshold. It stays where it is.")
            return
        target = self.folders.reject if judgement.is_anomalous else self.folders.accept
        notes = {VERDICT: _as_json(judgement)} if self.sidecar else {}
        self._move(_Move(image, self._target(target, image.path), notes))

    def _move(self, move: _Move) -> None:
        path = move.image.path
        try:
            if _mark(path.stat()) != move.image.mark:  # rewritten while it was judged: the new image comes again by itself
                self._say(f"{str(path)!r} changed while it was judged; it is judged again.")
                return
            deliver(path, move.target, move.notes)
        except FileNotFoundError:
            if path.exists():  # the other folder is away
                self._moves.append(move)
            else:
                self._say(f"{str(path)!r} was judged, and somebody took it away before it was moved.")
        except (OSError, AnomalyError) as error:
            self._moves.append(move)
            self._say(f"cannot move {str(path)!r} to {str(move.target.parent)!r}: {error}. Nothing is judged until it can be.")
        else:
            self.judged += 1
            self._watch.forget(path)
            self._forget(f"cannot move {str(path)!r} ")

    def _cannot_read(self, path: Path, error: BaseException) -> None:
        if self._watch.postponed(path):
            return
        self.failed += 1
        if self.folders.failed is None:
            self._say(f"{error} It stays in the watched folder; --failed DIR moves such files.")
            return
        try:
            deliver(path, self._target(self.folders.failed, path), {REASON: f"{error}\n"})
            self._watch.forget(path)
            log.warning("%s", error)
        except FileNotFoundError:
            pass
        except (OSError, AnomalyError) as second:
            self._try_later(path, f"cannot move {str(path)!r} to {str(self.folders.failed)!r}: {second}.")

    def _try_later(self, path: Path, text: str) -> None:
        self._say(f"{text} It is tried again every {AGAIN:g} seconds.")
        self._later.append((time.monotonic() + AGAIN, path))

    def _target(self, folder: Path, path: Path) -> Path:
        return folder / path.relative_to(self._watch.folder)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._watch.folder).as_posix()

    def _say(self, text: str) -> None:
        """Warn, once for a text."""
        if text not in self._said:
            log.warning("%s", text)
            self._said[text] = None
            if len(self._said) > REMEMBERED:
                del self._said[next(iter(self._said))]

    def _forget(self, start: str) -> None:
        """Warn again of what begins so, as it was well meanwhile."""
        for text in [text for text in self._said if text.startswith(start)]:
            del self._said[text]


def _mark(facts: os.stat_result) -> Mark:
    return facts.st_size, facts.st_mtime_ns


def _as_json(judgement: Judgement) -> str:
    return json.dumps(verdict_json(judgement), indent=1, allow_nan=False) + "\n"
