"""The input images of a command: files, folders, globs, or a list on standard input."""

from __future__ import annotations

import codecs
import glob
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import TextIO

from anomaly_core import IMAGE_SUFFIXES, OTHER_PICTURES, DataError, is_clutter, marked_encoding

STANDARD_INPUT = "-"
# Three letters in a row, such as of a suffix, that take two bytes each
_ZEROS = {rb"(?:..)*?(?:[ -~]\0){3}": "utf-16-le", rb"(?:..)*?(?:\0[ -~]){3}": "utf-16-be"}
Report = Callable[[OSError], None]


def image_paths(names: Iterable[str], listing: TextIO | None = None, *, unreadable: Report | None = None) -> Iterator[Path]:
    """Yield paths one at a time, in constant memory: files as given; images below folders and matches of globs, each sorted;
    ``-`` reads one path per line from ``listing`` (standard input).

    Links to folders are followed, and each folder is read once for a name, however many links lead to it. What other programs
    leave in folders (hidden files, thumbnails, recycle bins) is left out, unless it is named itself.

    Args:
        names: of files and folders, globs, or ``-``.
        listing: the list; None: standard input.
        unreadable: called with the error of each folder that cannot be read, whose images are left out; None: a warning.

    Raises:
        DataError: immediately if a name is not a file, a folder or a matching glob, or standard input is closed; later if a
            folder contains no image.
    """
    names = list(names)
    for name in names:
        if name != STANDARD_INPUT and not _exists(name) and not _matches(name):
            raise DataError(f"there is no image or folder {name!r}, and no file matches it as a glob. Check the path.")
    listing = sys.stdin if listing is None else listing
    if STANDARD_INPUT in names and listing is None:  # as in a process that has no terminal
        raise DataError(
            "standard input is closed: there is no list to read. Give one, as in `anomaly predict RUN - < list.txt`."
        )
    return _paths(names, listing, unreadable or _warn)


def _paths(names: list[str], listing: TextIO, unreadable: Report) -> Iterator[Path]:
    for name in names:
        if name == STANDARD_INPUT:
            yield from map(Path, _listed(listing))
            continue
        found = 0  # images, and folders that cannot be read

        def report(error: OSError) -> None:
            nonlocal found
            found += 1
            unreadable(error)

        for path in _inside(Path(name), report, set()) if _exists(name) else _matching(name, report):
            found += 1
            yield path
        if not found:
            what = "the folder" if Path(name).is_dir() else "what matches"
            raise DataError(f"{what} {name!r} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). Check the path.")


def _inside(path: Path, unreadable: Report, entered: set[str]) -> Iterator[Path]:
    """The file, or the images below the folder."""
    if path.is_dir():
        yield from walk(path, unreadable, entered)
    else:
        yield path


def _matching(pattern: str, unreadable: Report) -> Iterator[Path]:
    """The images that match, and those below the folders that match."""
    entered: set[str] = set()
    for match in sorted(set(map(Path, _globbed(pattern, unreadable)))):
        if _is_left_out(match, Path(pattern)):
            continue
        if not match.is_dir():
            if match.suffix.lower() in IMAGE_SUFFIXES:
                yield match
        elif "**" not in pattern:  # with "**", its contents match as well
            yield from walk(match, unreadable, entered)


def _is_left_out(match: Path, pattern: Path) -> bool:
    """Whether a wildcard found what another program left, which ``.*.png`` and ``@eaDir/*`` ask for and ``*`` does not."""
    pairs = takewhile(lambda pair: pair[1] != "**", zip(reversed(match.parts), reversed(pattern.parts), strict=False))
    return any(is_clutter(name) and name[0] != asked[0] for name, asked in pairs)


def _exists(name: str) -> bool:
    """Whether something has that name, be it a link that leads nowhere."""
    try:
        return os.path.lexists(name)  # Path.exists follows links
    except ValueError:  # no system has such a name
        return False


def _warn(error: OSError) -> None:
    warnings.warn(described(error), stacklevel=2)


def described(error: OSError) -> str:
    """What a person reads of a folder that cannot be read."""
    return f"cannot read the folder {str(error.filename)!r}: {error.strerror}. Its images are left out; check its rights."


def _globbed(pattern: str, unreadable: Report) -> Iterator[str]:
    """As ``glob.iglob``, which follows loops of links for ever: here ``**`` enters each folder once."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)  # noqa: PTH207  # a pattern may be absolute
        return
    cut = parts.index("**")
    before, after = Path(*parts[:cut]), Path(*parts[cut + 1 :] or ("*",))
    entered: set[str] = set()
    for start in sorted(glob.iglob(str(before))) if cut else ["."]:  # noqa: PTH207
        for folder in _folders(Path(start), unreadable, entered) if Path(start).is_dir() else ():
            yield from _globbed(str(Path(glob.escape(str(folder))) / after), unreadable)


def _matches(name: str) -> bool:
    return glob.has_magic(name) and next(_globbed(name, lambda error: None), None) is not None


def _listed(listing: TextIO) -> Iterator[str]:
    """The names in a list, as :func:`_name` takes them from its lines; lines of blanks are left out."""
    for line in _lines(listing):
        if name := _name(line.rstrip("\r\n")):
            yield name


def _name(line: str) -> str:
    """The line as it stands, if something has that name; else without a mark, blanks and quotes around it."""
    if not line or _exists(line):
        return line
    name = line.removeprefix("\ufeff").strip()
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'" else name


def _lines(listing: TextIO) -> Iterator[str]:
    """The lines of a list: in UTF-8 or UTF-16 if it starts with that byte order mark, as from Windows programs; in UTF-16 too
    if its first line looks so; else as the system decodes.

    File names are bytes: names that cannot be decoded are passed through.
    """
    source = getattr(listing, "buffer", None)
    if source is None:  # text by nature
        yield from listing
        return
    encoding, errors, width, held = listing.encoding or "utf-8", "surrogateescape", 1, ""
    decode: Callable[[bytes], str] | None = None
    while content := source.readline():  # by bytes: a pipe may deliver half a mark or half a character
        if decode is None:
            if detected := _encoding(content):
                encoding = detected
            if encoding.startswith("utf-16"):
                errors, width = "backslashreplace", 2
            decode = codecs.getincrementaldecoder(encoding)(errors).decode
        if len(content) % width:
            content += source.read(1)  # of a line feed, and of what only holds its byte
        *whole, held = (held + decode(content)).split("\n")
        yield from whole
    yield held


def _encoding(start: bytes) -> str | None:
    """The encoding that the first line of a list shows by a mark, or by text whose every other byte is zero."""
    zeros = (name for pattern, name in _ZEROS.items() if re.match(pattern, start, re.DOTALL))
    return marked_encoding(start) or next(zeros, None)


def walk(folder: Path, unreadable: Report, entered: set[str]) -> Iterator[Path]:
    """Images below a folder, sorted by path; only the names along one branch of the tree are in memory.

    Whatever is no folder and has an image's suffix counts: a broken link or a pipe must be reported as an unreadable image.
    A warning names the kinds of pictures that are left out because they are not read.

    Args:
        folder: where to begin.
        unreadable: called with the error of each folder that cannot be read.
        entered: real paths of folders that are not entered again; grows.
    """
    entries = _entries(folder, unreadable, entered) or ()
    if others := {Path(name).suffix.lower() for name, is_folder in entries if not is_folder} & OTHER_PICTURES:
        warnings.warn(
            f"pictures in {str(folder)!r} are left out, as files of their kinds are not read: {', '.join(sorted(others))}. "
            "Convert them to a kind that is, such as PNG.",
            stacklevel=2,
        )
    for name, is_folder in entries:
        if is_folder:
            yield from walk(folder / name, unreadable, entered)
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
            yield folder / name


def _folders(folder: Path, unreadable: Report, entered: set[str]) -> Iterator[Path]:
    """The folder and all below it."""
    entries = _entries(folder, unreadable, entered)
    if entries is None:
        return
    yield folder
    for name, is_folder in entries:
        if is_folder:
            yield from _folders(folder / name, unreadable, entered)


def _entries(folder: Path, unreadable: Report, entered: set[str]) -> list[tuple[str, bool]] | None:
    """(name, whether it is a folder) of what is in a folder, sorted, but for what other programs leave there; None if it was
    entered before or cannot be read."""
    real = os.path.realpath(folder)  # not the inode: some network drives number nothing
    if real in entered:
        return None
    entered.add(real)
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, _is_folder(entry)) for entry in entries if not is_clutter(entry.name))
    except OSError as error:
        unreadable(error)
        return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, which is reported as an unreadable image
        return False
