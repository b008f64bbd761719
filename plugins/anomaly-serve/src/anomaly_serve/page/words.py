"""Numbers of a verdict in words, for a person who did not fit the detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anomaly_serve.page.render import figure
from anomaly_serve.records import Judgement


def oddness(p_value: float | None, count: int) -> str:
    """A p-value as a count of the images behind it: ``1 of 200 normal images looks at least this odd.``

    Args:
        p_value: (1 + images with at least this score) / (count + 1).
        count: the normal images with scores; with none there is nothing to say.
    """
    if p_value is None or count < 1:
        return ""
    above = max(0, round(p_value * (count + 1)) - 1)
    normals = f"{count:,} normal image{'s' * (count > 1)}"
    if not above:
        return f"None of {normals} looks this odd." if count > 1 else "The one normal image does not look this odd."
    if above >= count:
        return f"All {normals} look at least this odd." if count > 1 else "The one normal image looks at least this odd."
    return f"{above:,} of {normals} {'looks' if above == 1 else 'look'} at least this odd."


def reasons(judgement: Judgement, count: int) -> list[str]:
    """Why the verdict is what it is: sentences."""
    if judgement.threshold is None:
        return [f"The score is {figure(judgement.score)}. This version has no threshold, so there is no verdict: set one."]
    than = "above" if judgement.is_anomalous else "not above"
    score, threshold = figure(judgement.score), figure(judgement.threshold)
    if score == threshold:  # four digits do not tell them apart
        score, threshold = f"{judgement.score:.9g}", f"{judgement.threshold:.9g}"
    sentences = [oddness(judgement.p_value, count), f"The score {score} is {than} the threshold {threshold}."]
    return [sentence for sentence in sentences if sentence]


def verdict(judgement: Judgement) -> str:
    """One word."""
    return {True: "Alarm", False: "Normal", None: "No verdict"}[judgement.is_anomalous]


def place(region: Mapping[str, Any], count: int) -> str:
    """A region: how large, and how odd."""
    left, top, right, bottom = region["box"]
    area = f"{figure(region['area_mm2'])} mm²" if region.get("area_mm2") is not None else f"{region['area']:,.0f} px"
    size = f"{right - left} × {bottom - top} px at ({left}, {top}), area {area}"
    p_value = region.get("p_value")
    if p_value is None or count < 1:
        return size
    above = max(0, round(p_value * (count + 1)) - 1)
    odd = (
        "no normal image is this odd anywhere" if not above else f"{above:,} of {count:,} normal images are this odd somewhere"
    )
    return f"{size}: {odd}"


def done(mark: str | None, is_anomalous: bool | None) -> str:
    """What follows from a mark."""
    if mark == "confirmed" and not is_anomalous:
        return "Confirmed: the part is good."
    return {
        "confirmed": "Confirmed: a true defect. It becomes a known one of the next version.",
        "fine": "This is fine: it becomes a normal image of the next version.",
        "missed": "Missed: it becomes a known defect of the next version.",
        None: "",
    }[mark]
