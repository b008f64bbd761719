"""What sets of images are made of: their members, their limits, and what is answered to a file that was brought."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from anomaly_core import DataError, ImageReader, folder_name

Kind = Literal["normal", "abnormal"]
KINDS: tuple[Kind, ...] = get_args(Kind)
HISTORY = "history-"  # begins the name of an image that comes from the history; its verdict's id follows
DIGITS = 16  # of the SHA-256 in a file's name
_NAME = re.compile(rf"(?P<stem>.*)\.(?P<digest>[0-9a-f]{{{DIGITS}}})(?P<suffix>\.[a-z0-9]+)", re.DOTALL)
_LONGEST = 50  # letters of a name that are kept: with four bytes each, a file's name may have 255


@dataclass(frozen=True)
class Limits:
    """What teaching takes at most.

    Attributes:
        file_bytes, pixels: of one image.
        images: of a set.
        quota: bytes of all sets of all products.
        versions: of a product, the last that were taught, that keep their files.
    """

    file_bytes: int = 64_000_000
    pixels: int = 64_000_000
    images: int = 5_000
    quota: int = 5_000_000_000
    versions: int = 10


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


def member_of(path: Path, kind: Kind, size: tuple[int, int] | None = None) -> Member:
    """The image in a file of a set; DataError if it is none, by its name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path.name!r} is not a file of a set.")
    stem, judgement = match["stem"], None
    if stem.startswith(HISTORY):
        judgement = stem.removeprefix(HISTORY)
    size = size or ImageReader().size(path)
    return Member(match["digest"], stem, kind, path, size, path.stat().st_size, judgement)


def kept_name(name: str) -> str:
    """What is kept of a sender's name: its last part, valid on every system and short."""
    last = re.split(r"[/\\]", name)[-1]
    last = last.rsplit(".", 1)[0] if "." in last[1:] else last
    return folder_name(last.encode("utf-8", "replace").decode()[:_LONGEST].strip(" .") or "image")
