"""The input images of a command: files, folders, globs, a list on standard input, or a watched folder."""

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
    """Yield paths one at a time, in constant memory: files as given; images below folders and matches of globs, each sorted;
    ``-`` reads one path per line from ``listing`` (standard input).

    Raises:
        DataError: immediately if a name is not a file, a folder or a matching glob; later if a folder contains no image.
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
                elif match.is_dir() and "**" not in name:  # with "**", its contents match as well
                    yield from _inside(match)


def _matches(name: str) -> bool:
    return glob.has_magic(name) and next(glob.iglob(name, recursive=True), None) is not None  # noqa: PTH207


def _listed(listing: TextIO) -> Iterator[str]:
    """The lines of a list: in UTF-8 if it starts with a byte order mark, as from Windows programs; else as the system decodes.

    File names are bytes: names that cannot be decoded are passed through.
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
    for image in _walk(path):
        empty = False
        yield image
    if empty:
        raise DataError(f"the folder {str(path)!r} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). Check the path.")


def _walk(folder: Path) -> Iterator[Path]:
    """Images below a folder, sorted by path; only the names along one branch of the tree are in memory."""
    with os.scandir(folder) as entries:
        inside = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in inside:
        if is_folder:
            yield from _walk(folder / name)
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES and _is_file(folder / name):
            yield folder / name


def _is_file(path: Path) -> bool:
    """Whether a path is a file. A broken link counts too: it must be reported as an unreadable image."""
    return path.is_file() or (path.is_symlink() and not path.exists())


class Watch:
    """The images of a folder as they become complete: an image is complete when its size and modification time are the same
    in two successive polls. A file that is rewritten counts as new.

    Args:
        folder: the folder to watch, with all its subfolders.
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
            except FileNotFoundError:  # removed while the folder was read
                continue
            if facts.st_size:
                now[path] = (facts.st_size, facts.st_mtime_ns)
        ready = [path for path, mark in now.items() if self._seen.get(path) == mark != self._done.get(path)]
        self._seen = now
        self._done = {path: mark for path, mark in self._done.items() if path in now} | {path: now[path] for path in ready}
        return ready

    def __iter__(self) -> Iterator[list[Path]]:
        """The new images of each poll, forever."""
        while True:
            yield self.poll()
            time.sleep(self.interval)
