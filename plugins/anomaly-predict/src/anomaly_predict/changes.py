"""What the system tells of changes below a folder: where watchfiles is installed, and the drive is this machine's own."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from threading import Event, Thread

import psutil

_LOCAL = re.compile(r"ext\d|xfs|btrfs|zfs|f2fs|tmpfs|overlay|apfs|hfs|ntfs.*|refs|exfat|v?fat.*|msdos", re.IGNORECASE)
_GATHERED = 100  # milliseconds for which changes are gathered
_START = 2.0  # seconds until it is sure that changes are told
log = logging.getLogger("anomaly_core.predict")


class Changes:
    """Says whether something changed below a folder; where nobody can tell, that it may have changed.

    A folder that is removed and made again is listened to again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop, self._changed = Event(), Event()
        self._identity: tuple[int, int] | None = None
        self._thread: Thread | None = None
        self._started = 0.0
        self._can = is_local(folder)

    def happened(self) -> bool:
        """Whether something may have changed since the last call."""
        identity = _identity(self._folder)
        if identity != self._identity:
            self.close()
            self._identity = identity
            if identity is not None and self._can:
                self._stop, self._changed = Event(), Event()
                self._thread = Thread(target=self._listen, args=(self._stop, self._changed), name="changes", daemon=True)
                self._thread.start()
                self._started = time.monotonic()
            return True
        if self._thread is None or not self._thread.is_alive() or time.monotonic() - self._started < _START:
            return True
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)  # it looks at the event every 50 ms
        self._thread = None

    def _listen(self, stop: Event, changed: Event) -> None:
        try:
            from watchfiles import watch
        except ImportError:
            self._can = False
            return
        options = {"watch_filter": None, "debounce": _GATHERED, "rust_timeout": 0, "ignore_permission_denied": True}
        try:
            # not in the main thread: there it would swallow SIGTERM
            for _ in watch(str(self._folder), stop_event=stop, **options):
                changed.set()
        except Exception as error:  # of whatever kind: the system's limit of watched folders, above all
            self._can = False
            log.warning("the system does not tell of changes below %r: %s. Looking again and again.", str(self._folder), error)


def is_local(folder: Path) -> bool:
    """Whether a folder lies on a drive of this machine: what other machines change is not told."""
    real = Path(os.path.realpath(folder))
    holding = [drive for drive in psutil.disk_partitions(all=True) if real.is_relative_to(drive.mountpoint)]
    if not holding:
        return False
    drive = max(holding, key=lambda drive: len(drive.mountpoint))
    return _LOCAL.fullmatch(drive.fstype) is not None and "remote" not in drive.opts.split(",")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        facts = folder.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
