"""A folder that is watched: its images as they become complete, though it goes away for a while, as network drives do."""

from __future__ import annotations

import logging
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from anomaly_core import DataError, open_untrusted
from anomaly_predict.changes import Changes
from anomaly_predict.pool import Pool, outcome
from anomaly_predict.sources import described, walk

SETTLED = 1.0  # seconds for which an image's size and time stand still before it is taken
YOUNG = 10.0  # seconds in which an image that cannot be read may still be in the making
SLOW = 10.0  # seconds between two looks where the system tells of changes: it tells of none that other machines make
REMEMBERED = 200_000  # images that are gone, in case they come back
_PICTURE = re.compile(r"\d{5,}-.*\.png")
_PAINTER = "anomaly-report"  # what its pictures call their software
log = logging.getLogger("anomaly_core.predict")  # a command shows what the core's logger and those below it are given

Mark = tuple[int, int]  # size and modification time


class _Seen(NamedTuple):
    mark: Mark
    regular: bool
    since: float  # when it was seen so for the first time


class Watch:
    """The images of a folder as they become complete.

    An image is complete when its size and modification time are the same in two successive looks and for a second. One that
    is rewritten counts as new. When the folder goes away and comes back, as network drives do, the images that were given
    before are not given again. Pictures that ``--maps`` wrote are left out.

    Args:
        folder: the folder to watch, with all its subfolders.
        interval: seconds between looks.
        settled: seconds for which a complete image has not changed.
        young: seconds since its last change in which an image that cannot be read may still be in the making.

    Attributes:
        unreadable: the subfolders that could not be read in the last look.
    """

    def __init__(self, folder: str | Path, interval: float = 1.0, *, settled: float = SETTLED, young: float = YOUNG) -> None:
        self.folder = Path(folder)
        self.interval = interval
        self.unreadable: set[str] = set()
        self._settled, self._young = settled, young
        self._seen: dict[Path, _Seen] = {}
        self._done: dict[Path, Mark] = {}
        self._failed: dict[Path, Mark] = {}
        self._gone = False
        if not self.folder.is_dir():
            raise DataError(f"--watch needs a folder, and {str(folder)!r} is none. Make it, or check the path.")
        self._drive = self.folder.stat().st_dev

    def poll(self) -> list[Path]:
        """The images that became complete since the last call."""
        now = time.monotonic()
        found = self._look(now)
        if found is None:
            return []
        ready = [path for path, seen in found.items() if self._is_complete(path, seen, now)]
        self._seen = found
        self._done |= {path: found[path].mark for path in ready}
        self._forget()
        return [path for path in ready if not _is_picture(path)]

    def postponed(self, path: Path) -> bool:
        """Whether an image that cannot be read may still be in the making; it is given again when it is older or changed."""
        seen = self._seen.get(path)
        if seen is None or not seen.regular or time.monotonic() - seen.since >= self._young:
            return False
        self._failed[path] = self._done.pop(path, seen.mark)
        return True

    def forget(self, path: Path) -> None:
        """Tell that an image was taken away: one that comes by its name is new, even if size and time are the same."""
        self._done.pop(path, None)
        self._failed.pop(path, None)
        self._seen.pop(path, None)

    def __iter__(self) -> Iterator[list[Path]]:
        """The new images of each look, forever; often none."""
        changes, last = Changes(self.folder), -SLOW
        try:
            with Pool(1, "watch") as pool:  # so that Ctrl-C is noticed while the drive does not answer
                while True:
                    now = time.monotonic()
                    if outcome(pool.submit(changes.happened)) or self._waits() or now - last >= SLOW:
                        last = now
                        yield outcome(pool.submit(self.poll))
                    time.sleep(self.interval)
        finally:
            changes.close()

    def _look(self, now: float) -> dict[Path, _Seen] | None:
        """What is there now; None while the folder is gone."""
        errors: list[OSError] = []
        found: dict[Path, _Seen] = {}
        for path in walk(self.folder, errors.append, set()):
            before = self._seen.get(path)
            try:
                facts = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError:
                if before is not None:  # nothing is known, so nothing has changed
                    found[path] = before
                continue
            mark = facts.st_size, facts.st_mtime_ns
            unchanged = before is not None and before.mark == mark
            found[path] = before if unchanged else _Seen(mark, stat.S_ISREG(facts.st_mode), now)  # type: ignore[assignment]
        if self._is_gone(errors, bool(found)):
            return None
        self._note({str(error.filename): error for error in errors if not isinstance(error, FileNotFoundError)})
        return found

    def _is_complete(self, path: Path, seen: _Seen, now: float) -> bool:
        if self._done.get(path) == seen.mark:
            return False
        age = now - seen.since
        if not seen.regular or age >= self._young:
            return True
        return (
            age >= self._settled and seen is self._seen.get(path) and seen.mark[0] > 0 and self._failed.get(path) != seen.mark
        )

    def _is_gone(self, errors: list[OSError], anything: bool) -> bool:
        """Whether the folder cannot be read, or its network drive left an empty folder behind; said when that changes."""
        fault = next((error for error in errors if str(error.filename) == str(self.folder)), None)
        drive = None if fault else self._current_drive()
        gone = drive is None or (drive != self._drive and not anything)
        if gone and not self._gone:
            reason = fault.strerror if fault else "its drive is not connected"
            log.warning("the watched folder %r is gone: %s. Waiting for it to come back.", str(self.folder), reason)
        elif self._gone and not gone:
            log.warning("the watched folder %r is back.", str(self.folder))
        if drive is not None and not gone:
            self._drive = drive
        self._gone = gone
        return gone

    def _current_drive(self) -> int | None:
        try:
            return self.folder.stat().st_dev
        except OSError:
            return None

    def _note(self, errors: dict[str, OSError]) -> None:
        for name in errors.keys() - self.unreadable:
            log.warning("%s", described(errors[name]))
        self.unreadable = set(errors)

    def _forget(self) -> None:
        """Drop what was removed. A folder without any image may be that of a drive that is gone: its images may come back."""
        there = {path.parent for path in self._seen}
        missing = [path for path in self._done if path not in self._seen]
        spare = len(missing) - REMEMBERED
        for number, path in enumerate(missing):
            if number < spare or path.parent in there:
                del self._done[path]
        self._failed = {path: mark for path, mark in self._failed.items() if path in self._seen}

    def _waits(self) -> bool:
        """Whether something may become complete though nothing happens."""
        return self._gone or any(self._done.get(path) != seen.mark for path, seen in self._seen.items())


def _is_picture(path: Path) -> bool:
    """Whether ``--maps`` wrote it."""
    if not _PICTURE.fullmatch(path.name):
        return False
    try:
        with open_untrusted(path) as file, Image.open(file) as image:
            return image.info.get("Software") == _PAINTER
    except Exception:  # of whatever kind: it is decoded later, and its fault reported then
        return False
