"""One set of images, as files: ``normal/*`` and ``abnormal/*``. The files are the only record."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from anomaly_core import DataError, ImageReader, folder_name, open_untrusted, write_whole

Kind = Literal["normal", "abnormal"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LIST, LEARNING = "images.csv", "images-with-defects.csv"  # the second for methods that learn known defects
HISTORY = "history-"  # begins the name of an image that comes from the history; its verdict's id follows
CHUNK = 1 << 16
_DIGITS = 16  # of the SHA-256 in a file's name
_NAME = re.compile(rf"(?P<stem>.*)\.(?P<digest>[0-9a-f]{{{_DIGITS}}})(?P<suffix>\.[a-z0-9]+)", re.DOTALL)
_LONGEST = 50  # letters of a name that are kept: with four bytes each, a file's name may have 255
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "DIB": ".bmp", "SUN": ".ras"}


@dataclass(frozen=True)
class Limits:
    """What teaching takes at most.

    Attributes:
        file_bytes, pixels: of one image.
        images: of a set.
        quota: bytes of all sets of all products.
    """

    file_bytes: int = 64_000_000
    pixels: int = 64_000_000
    images: int = 5_000
    quota: int = 5_000_000_000


@dataclass(frozen=True)
class Member:
    """An image of a set.

    Attributes:
        digest: the first 16 digits of its content's SHA-256, by which it is known.
        name: what the sender calls it.
        size: (height, width) of the upright image.
        judgement: the id of the verdict in the history that it comes from; None for one that was brought.
    """

    digest: str
    name: str
    kind: Kind
    path: Path
    size: tuple[int, int]
    bytes: int
    judgement: str | None = None


@dataclass(frozen=True)
class Refused:
    """A file that was not taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Taken:
    """A file that was taken. ``again``: the set had it already, under ``member.name``."""

    member: Member
    again: bool = False


class Used:
    """The bytes that all sets below a folder take; what links share counts once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._bytes: int | None = None

    def bytes(self) -> int:
        with self._lock:
            if self._bytes is None:
                facts = [path.stat() for kind in KINDS for path in self._folder.glob(f"*/*/{kind}/*")]
                self._bytes = round(sum(fact.st_size / max(fact.st_nlink, 1) for fact in facts))
            return self._bytes

    def add(self, count: int) -> None:
        with self._lock:
            self._bytes = None if self._bytes is None else self._bytes + count

    def forget(self) -> None:
        with self._lock:
            self._bytes = None


class ImageSet:
    """The images of one set, normal ones and known defects. Thread-safe; what another process changes is not seen."""

    def __init__(self, folder: Path, limits: Limits, used: Used) -> None:
        self.folder = folder
        self.limits = limits
        self._used = used
        self._lock = threading.RLock()
        self._members: dict[str, Member] | None = None

    def members(self, kind: Kind | None = None) -> list[Member]:
        """The images, by their names; of one kind, or of both."""
        with self._lock:
            return sorted(
                (member for member in self._known().values() if kind in (None, member.kind)),
                key=lambda member: (member.name, member.digest),
            )

    def get(self, digest: str) -> Member | None:
        """The image with this content; None if there is none."""
        with self._lock:
            return self._known().get(digest)

    def take(self, kind: Kind, name: str, chunks: Iterable[bytes]) -> Taken | Refused:
        """Take a file's bytes as they come, if they are an image; else say why not. Nothing of a refused file stays.

        Args:
            name: what the sender calls it, a path or not.
            chunks: its bytes; no more of them are read than a file may have.
        """
        name = _named(name)
        with self._incoming() as file:
            refusal, digest = self._written(file, chunks)
            if refusal is None:
                try:
                    suffix, size = self._examined(file)
                except DataError as error:
                    refusal = _reason(error, file)
            if refusal is not None:
                return Refused(name, refusal)
            return self._placed(kind, name, file, digest, suffix, size)

    def take_file(self, kind: Kind, path: Path, name: str | None = None) -> Taken | Refused:
        """Take a copy of a file of this machine, as :meth:`take`."""
        name = name or path.name
        try:
            with open_untrusted(path, self.limits.file_bytes) as file:
                return self.take(kind, name, iter(lambda: file.read(CHUNK), b""))
        except OSError as error:
            return Refused(name, f"it cannot be read: {error.strerror or error}")

    def move(self, digest: str, kind: Kind) -> None:
        """Make a normal image a known defect, or the other way round; DataError if the set has no such image."""
        with self._lock:
            member = self._require(digest)
            if member.kind == kind:
                return
            target = self.folder / kind / member.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            member.path.replace(target)
            self._known()[digest] = _read(target, kind, member.size)

    def remove(self, digest: str) -> None:
        """Take an image out of the set; DataError if the set has no such image."""
        with self._lock:
            self._require(digest).path.unlink(missing_ok=True)
            del self._known()[digest]
        self._used.forget()

    def copy(self, target: Path) -> ImageSet:
        """The same images in another folder, as links where the file system has them, so that they take no room."""
        with self._lock:
            for member in self.members():
                place = target / member.kind / member.path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(member.path, place)
                except OSError:  # a file system without links
                    shutil.copyfile(member.path, place)
        self._used.forget()
        return ImageSet(target, self.limits, self._used)

    def write_list(self, category: str, *, learn_defects: bool = False) -> Path:
        """Write a list of the images for ``data.list`` in the set's own folder, and return its path.

        All normal images are learnt, and known defects test; without one a normal image does, as a run must test something.
        With ``learn_defects`` known defects are learnt too, but for one of them.

        Args:
            category: what the product is called in the run.
        """
        normal, abnormal = self.members("normal"), self.members("abnormal")
        ordered = sorted(member.digest for member in (abnormal or normal))
        testing = set(ordered if abnormal and not learn_defects else ordered[:1])
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("path", "label", "split", "category"))
        for member in (*normal, *abnormal):
            label, split = "good" if member.kind == "normal" else "bad", "test" if member.digest in testing else "train"
            writer.writerow((f"{member.kind}/{member.path.name}", label, split, category))
        path = self.folder / (LEARNING if learn_defects else LIST)
        write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"), "Free some space.")
        return path

    def _known(self) -> dict[str, Member]:
        if self._members is None:
            self._members = {}
            for kind in KINDS:
                for path in sorted(self.folder.glob(f"{kind}/*")):
                    with suppress(DataError):  # a file of somebody else's is no image of the set
                        member = _read(path, kind)
                        self._members[member.digest] = member
        return self._members

    def _require(self, digest: str) -> Member:
        member = self._known().get(digest)
        if member is None:
            raise DataError("this image is not in the set any more. Load the page again.")
        return member

    @contextmanager
    def _incoming(self) -> Iterator[Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f".{secrets.token_hex(8)}.part"
        try:
            yield file
        finally:
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def _written(self, file: Path, chunks: Iterable[bytes]) -> tuple[str | None, str]:
        """Why the bytes are refused, or None; and their digest."""
        digest, count, most = hashlib.sha256(), 0, self.limits.file_bytes
        room = self.limits.quota - self._used.bytes()
        try:
            with file.open("xb") as stream:
                for chunk in chunks:
                    count += len(chunk)
                    if count > most:
                        return f"it has more than {most / 1e6:,.3g} MB, the most that an image may have here", ""
                    if count > room:
                        return (
                            f"the images of all products would take more than {self.limits.quota / 1e9:.3g} GB. Remove "
                            "some, or start the service with a larger --teach-quota",
                            "",
                        )
                    digest.update(chunk)
                    stream.write(chunk)
        except OSError as error:
            return f"it cannot be stored: {error.strerror or error}", ""
        return (None if count else "it is empty"), digest.hexdigest()[:_DIGITS]

    def _examined(self, file: Path) -> tuple[str, tuple[int, int]]:
        """The suffix and (height, width) of an image, decoded once; DataError if it is none."""
        height, width = ImageReader().size(file)
        if height * width > self.limits.pixels:
            raise DataError(f"it has {width} x {height} pixels, and an image may have {self.limits.pixels:,} here")
        picture = ImageReader().read(file, known=True)
        with Image.open(file) as image:
            name = image.format or "PNG"
        return _SUFFIXES.get(name, f".{name.lower()}"), (picture.height, picture.width)

    def _placed(self, kind: Kind, name: str, file: Path, digest: str, suffix: str, size: tuple[int, int]) -> Taken | Refused:
        with self._lock:
            known = self._known().get(digest)
            if known is not None and known.kind != kind:
                other = "a known defect" if known.kind == "abnormal" else "a normal image"
                return Refused(name, f"the set has it already as {other}, {known.name}: move or remove that first")
            if known is not None:
                return Taken(known, again=True)
            if len(self._known()) >= self.limits.images:
                return Refused(name, f"the set has {self.limits.images:,} images, the most that it may have")
            target = self.folder / kind / f"{name}.{digest}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            member = self._known()[digest] = _read(target, kind, size)
        self._used.add(member.bytes)
        return Taken(member)


def _read(path: Path, kind: Kind, size: tuple[int, int] | None = None) -> Member:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path.name!r} is not a file of a set.")
    stem, judgement = match["stem"], None
    if stem.startswith(HISTORY):
        judgement = stem.removeprefix(HISTORY)
    size = size or ImageReader().size(path)
    return Member(match["digest"], stem, kind, path, size, path.stat().st_size, judgement)


def _named(name: str) -> str:
    """What is kept of a sender's name: its last part, valid on every system and short."""
    last = re.split(r"[/\\]", name)[-1]
    last = last.rsplit(".", 1)[0] if "." in last[1:] else last
    return folder_name(last.encode("utf-8", "replace").decode()[:_LONGEST].strip(" .") or "image")


def _reason(error: DataError, file: Path) -> str:
    text = str(error).removeprefix(f"cannot read the image {str(file)!r}: ")
    return text.removesuffix(" Remove or replace the file, then run again.").rstrip(".")
