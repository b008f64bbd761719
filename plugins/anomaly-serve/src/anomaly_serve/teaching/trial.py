"""The trial of a version that does not judge yet: what it says of the last images, and of those that a person has marked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from anomaly_core import Calibration, write_whole
from anomaly_serve.records import Judgement, Version
from anomaly_serve.teaching.image_set import ImageSet

LAST = 200  # images of the history
MARKED = 100  # images with each mark that a trial takes: each is a copy on the disk while it lasts
MOST_MARKED = 1_000  # that a set takes
PAGE = 200  # verdicts that are read at once
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/bmp": ".bmp", "image/tiff": ".tif", "image/webp": ".webp"}


class History(Protocol):
    """What a trial needs of the store."""

    def judgements(self, product: str, **filters: Any) -> list[Judgement]: ...
    def judgement(self, id: str) -> Judgement | None: ...
    def image(self, id: str) -> tuple[bytes, str] | None: ...


@dataclass(frozen=True)
class Case:
    """An image that a version is tried on.

    Attributes:
        key: the verdict's id, or ``set:`` and the digest of a known defect that was brought.
        is_defect: what a person says of it; None where nobody did.
        is_learnt: the new version has learnt it, so that it proves nothing.
        old_score: by the version that judges now, where that is known without scoring it again.
    """

    key: str
    name: str
    path: Path
    is_defect: bool | None
    is_learnt: bool
    old_score: float | None = None


@dataclass(frozen=True)
class Row:
    """What both versions say of a case; None where one gives no verdict. ``fault``: why the image could not be scored."""

    key: str
    name: str
    is_defect: bool | None
    is_learnt: bool
    old_score: float | None
    old: bool | None
    new_score: float | None
    new: bool | None
    fault: str = ""

    @property
    def changes(self) -> bool:
        """Whether the verdict would be another."""
        return self.old is not None and self.new is not None and self.old != self.new


@dataclass(frozen=True)
class Trial:
    """A version compared with the one that judged when it was tried, each with its settings of then.

    Attributes:
        against: the number of the version that judged; None if there was none.
        threshold, old_threshold: of both.
    """

    product: str
    version: int
    against: int | None
    time: float
    threshold: float | None
    old_threshold: float | None
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which :meth:`from_dict` reads."""
        return {**vars(self), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Trial:
        """A trial from :meth:`to_dict`."""
        return cls(**{**values, "rows": tuple(Row(**row) for row in values["rows"])})

    def summary(self) -> dict[str, int]:
        """How many images, changes, defects and false alarms there are.

        ``defects``, ``found`` and ``found_before``; ``fine`` (images that a person called fine), ``alarms`` and
        ``alarms_before`` among them: all without what the new version has learnt, which is counted in ``learnt`` alone.
        """
        fresh = [row for row in self.rows if not row.is_learnt and not row.fault]
        defects = [row for row in fresh if row.is_defect]
        fine = [row for row in fresh if row.is_defect is False]
        return {
            "images": len(self.rows),
            "changed": sum(row.changes for row in self.rows),
            "new_alarms": sum(row.changes and bool(row.new) for row in self.rows),
            "defects": len(defects),
            "found": sum(bool(row.new) for row in defects),
            "found_before": sum(bool(row.old) for row in defects),
            "fine": len(fine),
            "alarms": sum(bool(row.new) for row in fine),
            "alarms_before": sum(bool(row.old) for row in fine),
            "learnt": sum(row.is_learnt for row in self.rows),
            "faults": sum(bool(row.fault) for row in self.rows),
        }


def cases(
    history: History, product: str, images: ImageSet, learnt: Set[str], folder: Path, active: Version | None, last: int = LAST
) -> list[Case]:
    """The cases of a trial: the last images that are kept, the last with each mark, and the known defects that were brought.

    Args:
        images: the set of the version that is tried.
        learnt: what it has learnt of them (:meth:`ImageSet.learnt`).
        folder: the images of the history are written here.
    """
    found: dict[str, Case] = {}
    for judgement in _candidates(history, product, last):
        if judgement.id in found:
            continue
        kept = history.image(judgement.id)
        if kept is None:  # the quota has removed it
            continue
        content, media = kept
        path = folder / f"{judgement.id}{SUFFIXES.get(media, '.png')}"
        write_whole(path, content, "Free some space.")
        same = active is not None and judgement.version == active.number
        found[judgement.id] = Case(
            judgement.id,
            judgement.name or judgement.id,
            path,
            is_defect(judgement),
            digest(content) in learnt,
            judgement.score if same else None,
        )
    brought = [member for member in images.members("abnormal") if member.judgement is None]
    for member in brought:
        found[member.digest] = Case(f"set:{member.digest}", member.name, member.path, True, member.digest in learnt)
    return list(found.values())


def compared(
    all_cases: list[Case],
    scores: dict[str, float | None],
    old_scores: dict[str, float | None],
    faults: dict[str, str],
    new: Calibration,
    old: Calibration | None,
) -> tuple[Row, ...]:
    """The rows of a trial; scores and faults are those of :attr:`Case.key`."""
    rows = []
    for case in all_cases:
        before = case.old_score if case.old_score is not None else old_scores.get(case.key)
        after = scores.get(case.key)
        rows.append(
            Row(
                case.key,
                case.name,
                case.is_defect,
                case.is_learnt,
                before,
                None if before is None or old is None else old.is_anomalous(before),
                after,
                None if after is None else new.is_anomalous(after),
                faults.get(case.key, ""),
            )
        )
    return tuple(rows)


def is_defect(judgement: Judgement) -> bool | None:
    """What a person says of the part by a mark; None without one. To confirm a verdict is to say what it says."""
    return {"fine": False, "missed": True, "confirmed": judgement.is_anomalous}.get(judgement.mark or "")


def digest(content: bytes) -> str:
    """By which a set knows an image."""
    return hashlib.sha256(content).hexdigest()[:16]


def marked(history: History, product: str, mark: str, most: int = MOST_MARKED) -> Iterator[Judgement]:
    """The verdicts that a person has marked so, the newest first."""
    return _paged(history, product, most, mark=mark)


def _candidates(history: History, product: str, last: int) -> Iterator[Judgement]:
    yield from _paged(history, product, last)
    for mark in ("missed", "fine", "confirmed"):
        yield from marked(history, product, mark, MARKED)


def _paged(history: History, product: str, most: int, **filters: Any) -> Iterator[Judgement]:
    before, given = None, 0
    while given < most:
        page = history.judgements(product, limit=min(PAGE, most - given), before=before, **filters)
        yield from page
        given += len(page)
        if len(page) < min(PAGE, most - given + len(page)):
            return
        before = page[-1].id
