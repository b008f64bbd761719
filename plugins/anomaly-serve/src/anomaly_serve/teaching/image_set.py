"""One set of images, as files: ``normal/*`` and ``abnormal/*``. The files are the only record."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from anomaly_core import DataError, open_untrusted, write_whole
from anomaly_serve.teaching.arrival import Arrival
from anomaly_serve.teaching.members import KINDS, Kind, Limits, Member, Refused, Taken, Used, kept_name, member_of

LIST, LEARNING = "images.csv", "images-with-defects.csv"  # the second for methods that learn known defects
CHUNK = 1 << 16


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

    def revision(self) -> str:
        """A word that changes when the set does."""
        with self._lock:
            text = "".join(f"{digest}{member.kind}" for digest, member in sorted(self._known().items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def take(self, kind: Kind, name: str, chunks: Iterable[bytes]) -> Taken | Refused:
        """Take a file's bytes as they come, if they are an image; else say why not. Nothing of a refused file stays.

        Args:
            name: what the sender calls it, a path or not.
            chunks: its bytes; no more of them are read than a file may have.
        """
        with self.arrival(kind, name) as arrival:
            for chunk in chunks:
                if not arrival.write(chunk):
                    break
            return arrival.finish()

    def arrival(self, kind: Kind, name: str) -> Arrival:
        """A file that is about to come, for those who cannot wait for its bytes in one place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Arrival(self, kind, kept_name(name), self.limits, self.limits.quota - self._used.bytes())

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
            self._known()[digest] = member_of(target, kind, member.size)

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

    def learnt(self, learn_defects: bool = False) -> set[str]:
        """What a fit learns: all normal images, but for one where there is no known defect, as a run must test something; with
        ``learn_defects`` known defects too, but for one of them."""
        normal, abnormal = ({member.digest for member in self.members(kind)} for kind in KINDS)
        tested = {min(abnormal or normal, default="")}
        return (normal | abnormal if learn_defects else normal) - tested

    def write_list(self, category: str, *, learn_defects: bool = False) -> Path:
        """Write a list of the images for ``data.list`` in the set's own folder, and return its path.

        Args:
            category: what the product is called in the run.
            learn_defects: as in :meth:`learnt`; what is not learnt tests.
        """
        learnt = self.learnt(learn_defects)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("path", "label", "split", "category"))
        for member in (*self.members("normal"), *self.members("abnormal")):
            label, split = "good" if member.kind == "normal" else "bad", "train" if member.digest in learnt else "test"
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
                        member = member_of(path, kind)
                        self._members[member.digest] = member
        return self._members

    def _require(self, digest: str) -> Member:
        member = self._known().get(digest)
        if member is None:
            raise DataError("this image is not in the set any more. Load the page again.")
        return member

    def place(self, kind: Kind, name: str, file: Path, digest: str, suffix: str, size: tuple[int, int]) -> Taken | Refused:
        """Move an examined file into the set."""
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
            member = self._known()[digest] = member_of(target, kind, size)
        self._used.add(member.bytes)
        return Taken(member)
