"""What the service knows and keeps: verdicts, versions of a product, their settings, changes, alarms and jobs. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, get_args

from anomaly_core import Calibration

Mark = Literal["confirmed", "fine", "missed"]  # what a person says of a verdict
MARKS: tuple[Mark, ...] = get_args(Mark)
JobState = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]


@dataclass(frozen=True)
class Judgement:
    """A verdict that was answered: an image, by one version of a product, with the settings of that moment.

    Attributes:
        id: 26 characters that sort by time (a ULID).
        time: when the image came, seconds since 1970, UTC.
        source: the door that it came by: ``http``, ``v2``, ``page``, ``folder``, ``camera``, ``mqtt``.
        name: what the sender calls the image, such as a file's name or a serial number; empty without one.
        score, p_value: raw, and the share of normal images with at least this score (None without a threshold).
        threshold, is_anomalous: of that moment; None for a detector without a threshold.
        regions: :meth:`anomaly_predict.Region.to_dict` of each; None where the detector finds none.
        size: (height, width) of the upright image.
        settings: the number of the :class:`Settings` that held, within the version.
        times: milliseconds: ``decode``, ``wait``, ``score``.
        facts: cheap statistics of the image, for drift; names are those of ``anomaly_drift``.
        mark: what a person said of it later, with whom and when in the product's changes.
    """

    id: str
    product: str
    version: int
    time: float
    source: str
    name: str
    score: float
    p_value: float | None
    threshold: float | None
    is_anomalous: bool | None
    size: tuple[int, int]
    regions: tuple[dict[str, Any], ...] | None = None
    settings: int = 1
    times: dict[str, float] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    mark: Mark | None = None

    def marked(self, mark: Mark | None) -> Judgement:
        """A copy with what a person says of it."""
        return replace(self, mark=mark)


@dataclass(frozen=True)
class Settings:
    """How a version judges. Settings are never changed: new ones follow, so that each verdict can be explained.

    Attributes:
        number: within the version, from 1.
        calibration: threshold, map threshold and the scores behind them.
        least_area: pixels that a region must have; None: the detector's own.
        time, who, why: when, by whom and for what reason they came.
    """

    number: int
    calibration: Calibration
    least_area: float | None
    time: float
    who: str
    why: str


@dataclass(frozen=True)
class Version:
    """A detector of a product.

    Attributes:
        number: within the product, from 1.
        path: the run's folder or the exported file, absolute.
        parent: the number of the version that it was taught on from; None for the first, and for one that came by hand.
        created, who, note: when, by whom, and in what words.
        is_active: whether it judges; one version of a product does, or none.
        files_removed, files_removed_why: when, and to what end or by whom, the service removed its files; None while they
            are there. Its verdicts, settings and trial stay.
    """

    product: str
    number: int
    path: str
    parent: int | None
    created: float
    who: str
    note: str
    is_active: bool
    files_removed: float | None = None
    files_removed_why: str = ""

    @property
    def removal(self) -> str:
        """What became of its files, in words; empty while they are there."""
        if self.files_removed is None:
            return ""
        return f"its files were removed on {datetime.fromtimestamp(self.files_removed):%Y-%m-%d} {self.files_removed_why}"


@dataclass(frozen=True)
class Change:
    """Who changed what: an entry of a product's diary."""

    time: float
    who: str
    product: str
    action: str  # such as `activate`, `settings`, `mark`, `add version`, `acknowledge`
    facts: dict[str, Any]


@dataclass(frozen=True)
class Alarm:
    """The line has drifted, in words for the person at it.

    Attributes:
        since: the time of the first image that the change is seen in, as far as can be told.
        text: one sentence.
        facts: what was measured.
        acknowledged: when somebody said that he knows; None until then.
    """

    id: int
    product: str
    version: int
    time: float
    since: float
    text: str
    facts: dict[str, Any]
    acknowledged: float | None = None


@dataclass(frozen=True)
class Job:
    """A version that is being taught, in the background.

    Attributes:
        progress: 0 to 1, or None where nobody knows.
        message: what is going on, or why it failed.
        facts: what was asked for, and what came of it (``run``, ``version``).
    """

    id: str
    product: str
    state: JobState
    created: float
    updated: float
    who: str
    progress: float | None = None
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
