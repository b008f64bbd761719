"""The images that a command is given: files, folders, globs, a list on standard input, a folder that is watched."""

from __future__ import annotations

import codecs
import glob
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from anomaly_core import IMAGE_SUFFIXES, DataError

STANDARD_INPUT = "-"


def image_paths(names: Iterable[str], listing: TextIO | None = None) -> Iterator[Path]:
    """Paths one at a time, in constant memory: files as they are, the images below folders and those that a glob matches,
    each sorted; ``-`` reads one path a line from ``listing`` (standard input).

    Raises:
        DataError: at once where a name is neither file, folder nor a glob that matches; later, where a folder holds no image.
    """
    names = list(names)
    for name in names:
        if name != STANDARD_INPUT and not Path(name).exists() and not _matches(name):
            raise DataError(f"there is no image or folder {name!r}, and no file matches it as a glob. Check the path.")
    return _paths(names, sys.stdin if listing is None else listing)


def _paths(names: list[str], listing: TextIO) -> Iterator[Path]:
    for name in names:
        if name == STANDARD_INPUT:
            yield from map(Path, _listed(listing))
        elif Path(name).exists():
            yield from _inside(Path(name))
        else:
            for match in sorted(map(Path, glob.iglob(name, recursive=True))):  # noqa: PTH207  # a pattern may be absolute
                if match.is_file() and match.suffix.lower() in IMAGE_SUFFIXES:
                    yield match
                elif match.is_dir() and "**" not in name:  # which has been below it already
                    yield from _inside(match)


def _matches(name: str) -> bool:
    return glob.has_magic(name) and next(glob.iglob(name, recursive=True), None) is not None  # noqa: PTH207


def _listed(listing: TextIO) -> Iterator[str]:
    """The lines of a list: in UTF-8 where a mark at its start says so, as Windows programs put it; else as the system decodes.

    File names are bytes: those that are no text go through all the same.
    """
    if isinstance(listing, io.TextIOWrapper) and isinstance(listing.buffer, io.BufferedReader):
        marked = listing.buffer.peek(3).startswith(codecs.BOM_UTF8)
        listing.reconfigure(encoding="utf-8-sig" if marked else None, errors="surrogateescape")
    yield from filter(None, (line.rstrip("\r\n") for line in listing))


def _inside(path: Path) -> Iterator[Path]:
    """The file, or the images below the folder."""
    if not path.is_dir():
        yield path
        return
    empty = True
    for found in _walk(path):
        empty = False
        yield found
    if empty:
        raise DataError(f"the folder {str(path)!r} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). Check the path.")


def _walk(folder: Path) -> Iterator[Path]:
    """Images below a folder in the order of their paths; of the tree, one folder's names are held at a time."""
    with os.scandir(folder) as entries:
        inside = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in inside:
        if is_folder:
            yield from _walk(folder / name)
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES and _is_file(folder / name):
            yield folder / name


def _is_file(path: Path) -> bool:
    """A link that leads nowhere counts: it is an image that cannot be read, which must be said."""
    return path.is_file() or (path.is_symlink() and not path.exists())


class Watch:
    """The images of a folder as they become complete, poll by poll: those whose size and time of change stood still
    from one poll to the next. A file that is written anew counts anew.

    Args:
        folder: watched with all folders below it.
        interval: seconds between polls.
    """

    def __init__(self, folder: str | Path, interval: float = 1.0) -> None:
        self.folder = Path(folder)
        self.interval = interval
        self._seen: dict[Path, tuple[int, int]] = {}
        self._done: dict[Path, tuple[int, int]] = {}
        if not self.folder.is_dir():
            raise DataError(f"--watch needs a folder, and {str(folder)!r} is none. Make it, or check the path.")

    def poll(self) -> list[Path]:
        """The images that became complete since the last call."""
        now: dict[Path, tuple[int, int]] = {}
        for path in _walk(self.folder):
            try:
                facts = path.stat()
            except FileNotFoundError:  # taken away while the folder was read
                continue
            if facts.st_size:
                now[path] = (facts.st_size, facts.st_mtime_ns)
        ready = [path for path, mark in now.items() if self._seen.get(path) == mark != self._done.get(path)]
        self._seen = now
        self._done = {path: mark for path, mark in self._done.items() if path in now} | {path: now[path] for path in ready}
        return ready

    def __iter__(self) -> Iterator[list[Path]]:
        """What each poll found, for ever."""
        while True:
            yield self.poll()
            time.sleep(self.interval)
