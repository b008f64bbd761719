"""A new threshold after the line has changed, from recent images that nobody has labelled: a person accepts it or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from anomaly_core import Calibration, RunError, stands_out
from anomaly_serve.records import Judgement, Settings
from anomaly_serve.teaching.trial import PAGE, is_defect

LAST = 200  # images that a proposal rests on


@dataclass(frozen=True)
class Seen:
    """An image that a proposal rests on, or leaves out."""

    id: str
    name: str
    score: float
    old: bool | None
    new: bool | None


@dataclass(frozen=True)
class Proposed:
    """A threshold that waits for a person.

    Attributes:
        version, settings: of the moment of the proposal: it holds for no others.
        calibration: to judge by; None where none can be proposed.
        words: what is proposed and why, or why nothing is. ``warning``: what to look at before.
        left_out: what stands out so far that it may be a defect. ``changes``: what would get another verdict.
    """

    product: str
    version: int
    settings: int
    time: float
    count: int
    old_threshold: float | None
    calibration: Calibration | None
    words: str
    warning: str | None
    left_out: tuple[Seen, ...]
    changes: tuple[Seen, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which :meth:`from_dict` reads."""
        rows = {name: [asdict(one) for one in getattr(self, name)] for name in ("left_out", "changes")}
        return {**vars(self), **rows, "calibration": self.calibration and self.calibration.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Proposed:
        """A proposal from :meth:`to_dict`."""
        rows = {name: tuple(Seen(**one) for one in values[name]) for name in ("left_out", "changes")}
        calibration = values["calibration"] and Calibration.from_dict(values["calibration"])
        return cls(**{**values, **rows, "calibration": calibration})


def recent(store: Any, product: str, version: int, count: int) -> list[Judgement]:
    """The last images of a version that nobody has called defective, and whose images are kept, the newest first."""
    found: list[Judgement] = []
    before = None
    while len(found) < count:
        page = store.judgements(product, limit=PAGE, before=before, version=version)
        found += [one for one in page if not is_defect(one)]
        if len(page) < PAGE:
            break
        before = page[-1].id
    return found[:count]


def proposed(
    judgements: Sequence[Judgement], settings: Settings, map_maxima: Sequence[float] | None, rate: float | None = None
) -> Proposed:
    """What recent images propose.

    Args:
        judgements: all by one version.
        settings: those that hold.
        map_maxima: of each image; None without maps.
        rate: of false alarms; None: that of the settings.

    Raises:
        DataError: the detector has no threshold that rests on normal images.
        RunError: there is no image.
    """
    from anomaly_drift import recalibrated

    if not judgements:
        raise RunError("this version has judged no image yet: there is nothing to set a threshold by.")
    old, first = settings.calibration, judgements[0]
    proposal = recalibrated(old, [one.score for one in judgements], map_maxima, rate=rate)
    new = proposal.calibration

    def seen(one: Judgement) -> Seen:
        verdict = None if new is None else new.is_anomalous(one.score)
        return Seen(one.id, one.name or one.id, one.score, old.is_anomalous(one.score), verdict)

    rows = [seen(one) for one in judgements]
    warnings = [proposal.warning] if proposal.warning else []
    if new is not None and (odd := sum(stands_out(old.scores))):
        warnings.append(
            f"{odd} of the normal images behind the old threshold stand out themselves: if they are defects, such ones among "
            "the recent images may be taken for normal. Look at the version's odd images first, and teach anew without them"
        )
    left_out = sorted((rows[place] for place in proposal.left_out), key=lambda row: -row.score)
    changes = [row for row in rows if row.new is not None and row.new != row.old]
    return Proposed(
        first.product,
        first.version,
        settings.number,
        time.time(),
        len(judgements),
        old.threshold,
        new,
        proposal.words,
        "; ".join(warnings) or None,
        tuple(left_out),
        tuple(changes),
    )
