"""Files that are whole or not there, and folders that one process writes at a time."""

from __future__ import annotations

import os
import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anomaly_core.errors import RunError

ELSEWHERE = "Free some space or choose another folder with --output."
PATIENCE = 8.0  # seconds; a killed run's helper processes let go of its folder within five


def write_whole(path: Path, content: bytes, advice: str = ELSEWHERE) -> None:
    """Write a file whole or not at all: beside its place, flushed to the disk, then renamed.

    Args:
        content: of the file.
        advice: the next step, where it cannot be written.

    Raises:
        RunError: it cannot be written; what stood there before still does.
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
            temporary.replace(path)
        finally:
            with suppress(OSError):  # where even this cannot be done, the error that matters is on its way
                temporary.unlink(missing_ok=True)
        _flush(path.parent)
    except OSError as error:
        raise RunError(f"cannot write {str(path)!r}: {error}. {advice}") from error


def sweep(folder: Path) -> None:
    """Remove what killed writers left half done below a folder that nobody else writes in."""
    for part in folder.rglob(".*.part"):
        with suppress(OSError):  # a leftover does no harm
            part.unlink()


@contextmanager
def exclusive(folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder, so that no second process does; the system lets go of it however this process ends.

    Args:
        folder: exists.
        refusal: the error's text, where another process holds it.

    Raises:
        RunError: another process holds it, for longer than a killed one would.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two processes in one folder are not kept apart
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"cannot open the folder {str(folder)!r}: {error}. {ELSEWHERE}") from error
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise RunError(refusal) from error
                time.sleep(0.1)
            except OSError as error:
                warnings.warn(
                    f"the file system of {str(folder)!r} keeps no locks ({error}): "
                    "see to it that no second process writes there.",
                    stacklevel=3,
                )
                break
        yield
    finally:
        os.close(descriptor)


def _flush(folder: Path) -> None:
    """Let a rename survive a power cut, where the system can promise that."""
    with suppress(OSError):  # Windows and some network file systems flush no folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
