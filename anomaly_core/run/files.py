"""Atomic file writes, folders that only one process writes at a time, and names that are valid on every system."""

from __future__ import annotations

import calendar
import os
import re
import secrets
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anomaly_core.errors import RunError
from anomaly_core.untrusted import inside

ELSEWHERE = "Free some space or choose another folder with --output."
PATIENCE = 8.0  # seconds; a killed run's helper processes release its folder within five
LOCK = ".lock"
_STAMP, _RUN_ID = "%Y%m%d-%H%M%S", re.compile(r"[0-8]\d{7}-\d{6}-[0-9a-f]{6}")
_RETRIES, _PAUSE = 20, 0.05  # Windows refuses to replace a file that a virus scanner or a viewer has open for a moment
# names that Windows reserves, with any extension
_RESERVED = re.compile(r"(con|conin\$|conout\$|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def write_whole(path: Path, content: bytes, advice: str = ELSEWHERE, within: Path | None = None) -> None:
    """Write a file atomically: to a temporary file beside it, flushed to disk, then renamed.

    Raises:
        RunError: it cannot be written, or a link leads out of the folder ``within``; an existing file is unchanged, and
            ``advice`` is the next step.
    """
    # The process ID is not enough: on a shared folder, processes on two machines may have the same ID.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        if within is not None:
            inside(within, str(path.parent.relative_to(within)))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            replace(temporary, path)
        finally:
            with suppress(OSError):  # if this fails too, the first error is the one to report
                temporary.unlink(missing_ok=True)
        with suppress(OSError):  # lets the rename survive a power cut; Windows and some network file systems flush no folder
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise RunError(f"cannot write {str(path)!r}: {error}. {advice}") from error


def replace(source: Path, target: Path) -> None:
    """Rename a file over another; on Windows, retry for a second while another program has the target open."""
    for _ in range(_RETRIES if sys.platform == "win32" else 0):
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(_PAUSE)
    source.replace(target)


def sweep(folder: Path) -> None:
    """Remove the partial files of killed writers below a folder that no other process writes to."""
    for part in folder.rglob(".*.part"):
        with suppress(OSError):  # a leftover does no harm
            part.unlink()


@contextmanager
def exclusive(folder: Path, refusal: str, advice: str = ELSEWHERE) -> Iterator[None]:
    """Lock a folder against other processes; the system releases the lock however this process ends.

    Raises:
        RunError: another process holds the lock for longer than a killed one would; ``refusal`` is the message.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout as error:
        raise RunError(refusal) from error
    except NotImplementedError as error:
        warnings.warn(
            f"the file system of {str(folder)!r} keeps no locks ({error}): see to it that no second process writes there.",
            stacklevel=3,
        )
    except OSError as error:
        raise RunError(f"cannot lock the folder {str(folder)!r}: {error}. {advice}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # leaves no lock file; a waiting process locks a new one. Windows removes it on release
            (folder / LOCK).unlink()
        lock.release()


def folder_name(name: str) -> str:
    """A valid name on every system for one folder below another: no path separators, nothing that Windows rejects."""
    flat = re.sub(r'[<>:"/\\|?*\x00-\x1f]|[. ](?=[. ]*$)', "-", name)
    return f"_{flat}" if not flat or _RESERVED.match(flat) else flat


def run_id(place: Path) -> str:
    """The time and a random suffix; always later than existing runs, so that a clock set back does not change their order."""
    stamp = time.strftime(_STAMP, time.gmtime())
    with suppress(OSError, ValueError):  # no folder yet, or a name that is not a time
        newest = max((path.name for path in place.iterdir() if _RUN_ID.fullmatch(path.name)), default="")[:15]
        if newest >= stamp:
            stamp = time.strftime(_STAMP, time.gmtime(calendar.timegm(time.strptime(newest, _STAMP)) + 1))
    return f"{stamp}-{secrets.token_hex(3)}"
