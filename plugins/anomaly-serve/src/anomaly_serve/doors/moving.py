"""Moving a file from one folder to another never lost and never over another, whenever it is killed."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from anomaly_core import write_whole

_OTHER_DRIVE = errno.EXDEV
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL}
_CLOCK = 2_000_000_000  # nanoseconds: FAT counts two seconds
_PART = ".part"


def deliver(source: Path, target: Path, notes: Mapping[str, str] | None = None) -> Path:
    """Move a file to a target; where that name is taken, to ``name-1.png`` and so on. Nothing is ever replaced.

    On one drive, whenever the process is killed, the file is in one of both places, or for a moment in both, as one file with
    two names. From one drive to another it is copied whole, flushed, and then removed. :func:`delivered` recognises both.

    Args:
        source: a file, or a link to one, whose content is delivered.
        target: where to; its folder is made.
        notes: suffix to text: files that are written beside it first, such as ``.json``, so that whoever sees it sees them.

    Returns:
        Where it is now.

    Raises:
        OSError: it could not be moved, and is still where it was.
        RunError: a note could not be written; likewise.
    """
    notes = notes or {}
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = source
    try:
        while True:
            name = free(target, notes)
            beside = [name.with_name(name.name + suffix) for suffix in notes]
            try:
                for path, text in zip(beside, notes.values(), strict=True):
                    write_whole(path, text.encode("utf-8", "surrogateescape"))
                if whole is source and source.is_symlink():  # a relative link would lead nowhere from there
                    whole = _copied(source, target)
                try:
                    _rename(whole, name)
                except OSError as error:
                    if error.errno != _OTHER_DRIVE:
                        raise
                    whole = _copied(source, target)
                    _rename(whole, name)
                if whole is not source:
                    _remove(source, name)
            except FileExistsError:  # somebody took the name meanwhile
                _drop(beside)
            except BaseException:
                _drop(beside)
                raise
            else:
                return name
    finally:
        if whole is not source:
            whole.unlink(missing_ok=True)


def delivered(source: Path, target: Path) -> Path | None:
    """Where a file was delivered to before the process was killed; None if it was not.

    It is the same file under two names, or one of the same name, time and bytes, which copies have.
    """
    for name in _taken(target):
        with suppress(OSError):
            if name.samefile(source):
                return name
            ours, theirs = source.stat(), name.stat()
            same = ours.st_size == theirs.st_size and abs(ours.st_mtime_ns - theirs.st_mtime_ns) <= _CLOCK
            if same and filecmp.cmp(source, name, shallow=False):
                return name
    return None


def abandoned(source: Path, target: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Notes that were written beside a target when the process was killed, before the file itself could be moved there.

    They are newer than the file. Those that are older belong to one of the same name that somebody took away since.
    """
    if os.path.lexists(target):
        return []
    moment, found = source.stat().st_mtime_ns, []
    for suffix in suffixes:
        note = target.with_name(target.name + suffix)
        with suppress(FileNotFoundError):
            if note.stat().st_mtime_ns >= moment:
                found.append(note)
    return found


def free(target: Path, suffixes: Mapping[str, str] | tuple[str, ...] = ()) -> Path:
    """The target, or a numbered name that nothing has, nor with one of the suffixes. Few looks, though thousands are taken."""

    def taken(number: int) -> bool:
        name = _numbered(target, number)
        return any(os.path.lexists(f"{name}{suffix}") for suffix in ("", *suffixes))

    if not taken(0):
        return target
    most = 1
    while taken(most):
        most *= 2
    least = most // 2  # is taken
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if taken(middle) else (least, middle)
    return _numbered(target, most)


def clear(folder: Path) -> None:
    """Remove what copies that were killed left below a folder."""
    for part in folder.rglob(f".*{_PART}"):
        with suppress(OSError):
            part.unlink()


def _numbered(target: Path, number: int) -> Path:
    return target.with_name(f"{target.stem}-{number}{target.suffix}") if number else target


def _taken(target: Path) -> list[Path]:
    """The names that a file may have got last."""
    last = free(target)
    if last == target:
        return []
    number = int(last.stem.rpartition("-")[2])
    return [_numbered(target, one) for one in range(number - 1, max(-1, number - 9), -1)]


def _rename(source: Path, name: Path) -> None:
    """Rename without replacing; FileExistsError where the name is taken."""
    if sys.platform == "win32":
        source.rename(name)  # refuses a name that is taken
    else:
        _relink(source, name)


def _relink(source: Path, name: Path) -> None:
    try:
        os.link(source, name, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(name)) from None
        source.rename(name)  # a drive without links, such as FAT
        return
    try:
        source.unlink()
    except OSError:  # as in a folder that may only be read
        name.unlink()
        raise


def _copied(source: Path, target: Path) -> Path:
    """A whole copy beside the target, under a name that no one watches, flushed, with the time of the original."""
    part = target.with_name(f".{target.name}{_PART}")
    with source.open("rb") as original, part.open("wb") as copy:
        before = os.fstat(original.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(source))
        shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())
        size = copy.tell()
    after = source.stat()
    if (size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        part.unlink()
        raise OSError(errno.EBUSY, "it changed while it was copied", str(source))
    with suppress(OSError):  # some drives keep no times
        shutil.copystat(source, part)
    return part


def _remove(source: Path, name: Path) -> None:
    """Remove an original whose copy has its name; if it cannot be, the copy goes, so that there are not two."""
    try:
        source.unlink()
    except OSError:
        name.unlink()
        raise


def _drop(paths: list[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
