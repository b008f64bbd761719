"""Paths of users, and opening files that somebody else wrote: regular ones, of a bounded size, never waiting for a writer."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from anomaly_core.errors import ConfigError

LARGEST_TEXT, LARGEST_IMAGE = 1 << 28, 1 << 31  # bytes: 256 MiB and 2 GiB
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a device"))


def expanded(path: str | Path) -> Path:
    """The path with ``~`` as the user's home, unless something has that very name; ConfigError if there is no such home."""
    try:
        return Path(path) if os.path.lexists(path) else Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{str(path)!r} begins with ~, and this user has no home folder. Give the whole path, or set the variable HOME."
        ) from None


def open_untrusted(path: str | Path, limit: int | None = None) -> BinaryIO:
    """Open a file for reading, in binary.

    Args:
        limit: the size in bytes above which a file is refused; None accepts any.

    Raises:
        OSError: it is missing, too large, or no regular file: a pipe would block for ever.
    """
    _require_regular(Path(path).stat(), limit)  # before opening it: opening a device may act on it
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    try:
        _require_regular(os.fstat(file.fileno()), limit)  # another file may have taken the name meanwhile
    except OSError:
        file.close()
        raise
    return file


def read_untrusted(path: str | Path, limit: int = LARGEST_TEXT) -> bytes:
    """The bytes of a file; OSError as in :func:`open_untrusted`."""
    with open_untrusted(path, limit) as file:
        return file.read(limit)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))  # Windows has neither


def _require_regular(facts: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = next((name for matches, name in _KINDS if matches(facts.st_mode)), "a device")
        raise OSError(f"it is {kind}, not a regular file")
    if limit is not None and facts.st_size > limit:
        raise OSError(f"its {facts.st_size} bytes are more than the {limit} that such a file may have")


def inside(folder: Path, name: str) -> Path:
    """The path below a folder that a name of somebody else's says; OSError if the name or a link leads out of the folder."""
    written = PureWindowsPath(name)  # on every system: a drive or a network share must not even be asked
    try:
        if not written.anchor and ".." not in written.parts and (folder / name).resolve().is_relative_to(folder.resolve()):
            return folder / name
    except (ValueError, RuntimeError) as error:  # NUL; a loop of links
        raise OSError(f"it is no path: {error}") from error
    raise OSError("it leads out of the folder; where you trust its links, copy the folder with `cp -rL`")


def marked_encoding(start: bytes) -> str | None:
    """The encoding that a text's byte-order mark shows, UTF-8 or UTF-16, with which it is decoded without the mark; or None."""
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
