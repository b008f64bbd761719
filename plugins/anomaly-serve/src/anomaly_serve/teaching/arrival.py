"""A file on its way into a set."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from PIL import Image

from anomaly_core import DataError, ImageReader
from anomaly_serve.teaching.members import DIGITS, Kind, Limits, Refused, Taken

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "DIB": ".bmp", "SUN": ".ras"}


class Place(Protocol):
    """Where a file goes."""

    folder: Path

    def place(self, kind: Kind, name: str, file: Path, digest: str, suffix: str, size: tuple[int, int]) -> Taken | Refused: ...


class Arrival:
    """A file that comes: written piece by piece, examined at its end, and gone unless it was taken."""

    def __init__(self, images: Place, kind: Kind, name: str, limits: Limits, room: int) -> None:
        self._set, self._kind, self.name, self._limits, self._room = images, kind, name, limits, room
        self._path = images.folder / f".{secrets.token_hex(8)}.part"
        self._file: BinaryIO | None = None
        self._digest, self._count, self._refusal = hashlib.sha256(), 0, ""

    def write(self, chunk: bytes) -> bool:
        """Keep the next bytes; False if the file is refused, and no more of it is wanted."""
        self._count += len(chunk)
        if self._count > self._limits.file_bytes:
            self._refuse(f"it has more than {self._limits.file_bytes / 1e6:,.3g} MB, the most that an image may have here")
        elif self._count > self._room:
            most = f"{self._limits.quota / 1e9:.3g} GB"
            self._refuse(
                f"all sets would take more than {most}: remove images, or start the service with a larger --teach-quota"
            )
        if self._refusal:
            return False
        try:
            self._file = self._file or self._path.open("xb")
            self._file.write(chunk)
        except OSError as error:
            self._refuse(f"it cannot be stored: {error.strerror or error}")
            return False
        self._digest.update(chunk)
        return True

    def finish(self) -> Taken | Refused:
        """Take the file into the set, if it is an image, decoded once."""
        if not self._count:
            self._refuse("it is empty")
        try:
            if self._refusal or self._file is None:
                return Refused(self.name, self._refusal)
            self._file.close()
            suffix, size = _examined(self._path, self._limits.pixels)
            return self._set.place(self._kind, self.name, self._path, self._digest.hexdigest()[:DIGITS], suffix, size)
        except DataError as error:
            return Refused(self.name, _reason(error, self._path))
        except OSError as error:
            return Refused(self.name, f"it cannot be stored: {error.strerror or error}")
        finally:
            self.close()

    def close(self) -> None:
        """Remove what came of a file that was not taken."""
        if self._file is not None:
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse(self, reason: str) -> None:
        self._refusal = self._refusal or reason


def _examined(file: Path, most: int) -> tuple[str, tuple[int, int]]:
    """The suffix and (height, width) of an image, decoded once; DataError if it is none."""
    height, width = ImageReader().size(file)
    if height * width > most:
        raise DataError(f"it has {width} x {height} pixels, and an image may have {most:,} here")
    picture = ImageReader().read(file, known=True)
    with Image.open(file) as image:
        name = image.format or "PNG"
    return _SUFFIXES.get(name, f".{name.lower()}"), (picture.height, picture.width)


def _reason(error: DataError, file: Path) -> str:
    text = str(error).removeprefix(f"cannot read the image {str(file)!r}: ")
    return text.removesuffix(" Remove or replace the file, then run again.").rstrip(".")
