"""DriftAlarm: what has changed on the line, in words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from anomaly_drift.facts import FACTS

Kind = Literal["threshold", "alarms", "return"]
_LISTED = 3  # facts in a sentence

_PROPOSED = "`anomaly drift RUN IMAGES --recalibrate`, or the page of the service, proposes a threshold from recent images"
ADVICE: dict[str, str] = {
    "threshold": "Look at light, camera and part; until it is settled, verdicts of both kinds are in doubt. If images are to "
    f"stay so, {_PROPOSED}; or teach the product anew.",
    "alarms": "Look at the images that were called anomalous. If they are defective, the line makes more defects; if they "
    f"are fine, {_PROPOSED}.",
    "return": "If the threshold was set anew in between, take the former one back.",
}


@dataclass(frozen=True)
class DriftAlarm:
    """What has changed.

    Attributes:
        kind: ``threshold``: the bulk of the images has changed, and the threshold was set for others; ``alarms``: the share of
            anomalous verdicts has risen, and the bulk of the images is as before; ``return``: images are again like those
            that the threshold was set with.
        number, time, id: of the image with which the change became certain; ``number`` counts from 1, ``time`` is in seconds
            since 1970, or None for images without one.
        since_number, since, since_id: of the first image after the change, as far as can be told.
        text: one sentence; ``advice``: the next step.
        facts: what was measured: ``series`` (what told it), ``changes`` (share), ``usual``, ``now`` (medians), ``images`` and
            ``anomalous`` since then, ``images_before`` and ``anomalous_before``, ``expected`` (share of false alarms).
    """

    kind: Kind
    number: int
    time: float | None
    id: str
    since_number: int
    since: float | None
    since_id: str
    text: str
    advice: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def sentence(kind: Kind, when: str, causes: list[str], series: str, way: str, counts: Mapping[str, Any]) -> str:
    """An alarm in one sentence.

    Args:
        kind: of the alarm.
        when: since when, in words.
        causes: what images are like now, in words, what changed most first.
        series: what told it: ``p_value``, ``alarms`` or a fact's name.
        way: how its ranks changed: ``up``, ``down`` or ``spread``.
        counts: ``images`` and ``anomalous`` since then, and ``images_before`` and ``anomalous_before``; ``expected``.
    """
    images, anomalous = counts["images"], counts["anomalous"]
    before = f"{counts['anomalous_before']} of {counts['images_before']} before"
    if not counts["images_before"]:
        before = f"about {100 * counts['expected']:.2g} % were expected"
    share = f"{anomalous} of the {images} images since then {'is' if anomalous == 1 else 'are'} called anomalous ({before})"
    if kind == "return":
        return f"since {when} images are again like those that the threshold was set with; {share}"
    if kind == "alarms":
        return f"more alarms than expected since {when}: {share}; the bulk of the images looks as before"
    risen = (series in ("p_value", "alarms") and way != "up") or _has_risen(counts)
    lead = "the threshold no longer holds" if risen or series == "p_value" else "the threshold may no longer hold"
    if causes:
        return f"{lead} since {when}: images are {_listed(causes)}; {share}"
    if series == "p_value":
        scores = {"up": "ordinary images score lower than they did", "down": "ordinary images score higher than they did"}
        cause = scores.get(way, "the scores of ordinary images spread wider than they did")
    elif series == "alarms":
        cause = "most images score above it"
    else:
        fact = FACTS[series]
        cause = f"{fact.name.replace('_', ' ')} varies more from image to image"
    return f"{lead} since {when}: {cause}{_unexplained(series)}; {share}"


def _unexplained(series: str) -> str:
    return ", and no measured property of the images explains it yet" if series in ("p_value", "alarms") else ""


def _has_risen(counts: Mapping[str, Any]) -> bool:
    images, anomalous, before = counts["images"], counts["anomalous"], counts["images_before"]
    usual = max(counts["expected"], (counts["anomalous_before"] + 1) / (before + 2) if before else 0)
    return bool(anomalous >= 3 and anomalous > 3 * usual * images)


def _listed(parts: list[str]) -> str:
    shown = parts[:_LISTED]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def moment(at: float | None, number: int, now: float | None = None) -> str:
    """When an image came, in words: the time of day, with the date of another day; its number where there is no time."""
    if at is None:
        return f"image {number:,}"
    local, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M" if local[:3] == today[:3] else "%Y-%m-%d %H:%M", local)
