"""Unpacking an archive from the internet: no member leaves the folder, and nothing but files and folders is made."""

from __future__ import annotations

import hashlib
import logging
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from anomaly_core import DataError, is_clutter, open_untrusted, progress_bar
from anomaly_datasets.words import stem

log = logging.getLogger("anomaly_core.datasets")  # a command shows what the core's logger and those below it are given


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain, gz, bz2, xz) or zip archive into an existing, empty folder.

    Raises:
        DataError: it is no such archive, it is damaged, or a member is absolute, climbs with ``..``, is a link or a device.
    """
    if not archive.is_file():
        raise DataError(f"there is no archive {str(archive)!r}. Check the path given with --archive.")
    try:
        if tarfile.is_tarfile(archive):  # first: a tar may end with a zip, and then looks like one
            _unpack_tar(archive, folder)
        elif zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder)
        else:
            raise DataError(f"{str(archive)!r} is neither a tar nor a zip archive. Copy or download it again, whole.")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as error:
        raise DataError(
            f"the archive {str(archive)!r} cannot be unpacked: {error}. Copy or download it again, and check the disk's space."
        ) from error


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in progress_bar(tar, f"unpacking {archive.name}"):
            _check(archive, member.name, member.isfile() or member.isdir())
            if hasattr(tarfile, "data_filter"):  # absent from the oldest patch releases of Python 3.10
                tar.extract(member, folder, filter="data")
            else:
                tar.extract(member, folder, set_attrs=False)


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in progress_bar(packed.infolist(), f"unpacking {archive.name}"):
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
            _check(archive, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            target = folder.joinpath(*PurePosixPath(member.filename).parts)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _check(archive: Path, name: str, is_plain: bool) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
        reason = "would be written outside the folder"
    elif not is_plain:
        reason = "is a link or a device"
    else:
        return
    raise DataError(
        f"the archive {str(archive)!r} is refused: its member {name!r} {reason}. Nothing was written. "
        "Take the archive from the data set's publisher."
    )


def unpacked(archive: Path) -> Path:
    """The folder into which an archive is unpacked, beside it and once for its contents; the only folder in it, if there is
    no more.

    Raises:
        DataError: as :func:`unpack`; or nothing can be written beside the archive.
    """
    try:
        with open_untrusted(archive) as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        home = archive.absolute().parent / f"{stem(archive)}.unpacked-{digest.hexdigest()[:12]}"
        folder = home / (stem(archive) or "images")
        if not folder.is_dir():
            _unpack_beside(archive, home, folder.name)
            log.warning("unpacked %r into %r, where the next run finds it.", str(archive), str(home))
    except OSError as error:
        raise DataError(
            f"cannot unpack {str(archive)!r} beside it: {error}. Unpack it elsewhere, and name that folder instead."
        ) from error
    while len(inside := [item for item in folder.iterdir() if not is_clutter(item.name)]) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder


def _unpack_beside(archive: Path, home: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=home.parent, ignore_cleanup_errors=True) as temporary:
        whole = Path(temporary) / "whole"
        (whole / name).mkdir(parents=True)
        unpack(archive, whole / name)
        try:
            whole.rename(home)  # last, so that a folder of that name is complete
        except OSError:
            if not (home / name).is_dir():  # another process was first
                raise
