"""Files that are whole or not there, folders that one process writes at a time, and names that every system takes."""

from __future__ import annotations

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

ELSEWHERE = "Free some space or choose another folder with --output."
PATIENCE = 8.0  # seconds; a killed run's helper processes let go of its folder within five
LOCK = ".lock"
_RETRIES, _PAUSE = 20, 0.05  # Windows refuses to replace a file that a virus scanner or a viewer has open for a moment
# what Windows reserves, whatever ending follows
_RESERVED = re.compile(r"(con|conin\$|conout\$|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def write_whole(path: Path, content: bytes, advice: str = ELSEWHERE) -> None:
    """Write a file whole or not at all: beside its place, flushed to the disk, then renamed.

    Raises:
        RunError: it cannot be written, what stood there before still does, and ``advice`` is the next step.
    """
    # The process's number is not enough: of two machines that share the folder, both may have a process of that number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            replace(temporary, path)
        finally:
            with suppress(OSError):  # where even this cannot be done, the error that matters is on its way
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
    """Rename a file over another; on Windows again for a second, while somebody has the other one open."""
    for _ in range(_RETRIES if sys.platform == "win32" else 0):
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(_PAUSE)
    source.replace(target)


def sweep(folder: Path) -> None:
    """Remove what killed writers left half done below a folder that nobody else writes in."""
    for part in folder.rglob(".*.part"):
        with suppress(OSError):  # a leftover does no harm
            part.unlink()


@contextmanager
def exclusive(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder, so that no second process does; the system lets go of it however this process ends.

    Raises:
        RunError: another process holds it for longer than a killed one would; ``refusal`` is the text.
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
        raise RunError(f"cannot lock the folder {str(folder)!r}: {error}. {ELSEWHERE}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # no litter; who waits for the file that is gone locks a new one. Windows removes it on release
            (folder / LOCK).unlink()
        lock.release()


def folder_name(name: str) -> str:
    """A name as one folder below another, on every system: never above or beside it, never one that Windows refuses."""
    flat = re.sub(r'[<>:"/\\|?*\x00-\x1f]|[. ](?=[. ]*$)', "-", name)
    return f"_{flat}" if not flat or _RESERVED.match(flat) else flat
