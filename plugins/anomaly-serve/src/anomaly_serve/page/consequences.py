"""What a threshold would do: by the normal images behind the calibration, and by the images of the last days."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from anomaly_core import Calibration
from anomaly_serve.page.render import figure
from anomaly_serve.records import Judgement

BINS = 60
_MOST_SCORES = 50_000  # of the last days
_MOST_SEEN = 1_000  # the newest images, in which neighbours of a threshold and regions are looked up
_FRESH = 15.0  # seconds that what was read is used again while somebody moves the slider


@dataclass(frozen=True)
class Recent:
    """The last days of a version.

    Attributes:
        scores: sorted; the newest so many.
        seen: the newest verdicts.
        days: how many.
    """

    scores: tuple[float, ...]
    seen: tuple[Judgement, ...]
    days: int

    def above(self, threshold: float) -> int:
        """How many of the scores would raise an alarm."""
        return len(self.scores) - bisect_right(self.scores, threshold)


class RecentScores:
    """Reads the last days, and keeps them for some seconds; thread-safe."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._held: OrderedDict[tuple[str, int, int], tuple[float, Recent]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, product: str, version: int, days: int) -> Recent:
        """The last days of a version."""
        key = (product, version, days)
        with self._lock:
            since, found = self._held.get(key, (0.0, None))
            if found is not None and time.monotonic() - since < _FRESH:
                return found
        start = time.time() - 86400 * days
        scores = self._store.scores(product, version, since=start, limit=_MOST_SCORES)
        seen = self._store.judgements(product, limit=_MOST_SEEN, version=version, since=start)
        read = Recent(tuple(sorted(row[1] for row in scores)), tuple(seen), days)
        with self._lock:
            self._held[key] = (time.monotonic(), read)
            while len(self._held) > 4:
                self._held.popitem(last=False)
        return read


def histogram(calibration: Calibration, recent: Recent) -> dict[str, Any]:
    """Counts of both kinds of scores in equal bins; scores far ``beyond`` the normal ones are counted apart."""
    normals, images = np.asarray(calibration.scores), np.asarray(recent.scores)
    both = np.concatenate([normals, images])
    if not both.size:
        middle = calibration.threshold or 0.0
        return {"low": middle - 1, "high": middle + 1, "normals": [], "images": [], "beyond": 0}
    low, most = float(both.min()), float(both.max())
    usual = max(float(normals.max()) if normals.size else float(np.median(images)), calibration.threshold or low)
    high = min(most, usual + 1.2 * (usual - low)) if usual > low else most
    high = max(high, usual + 0.15 * (usual - low))  # room to raise the threshold
    if high <= low:
        low, high = low - 0.5, high + 0.5
    counts = [np.histogram(values, BINS, (low, high))[0].tolist() for values in (normals, images)]
    beyond = int((images > high).sum())
    return {"low": low, "high": high, "normals": counts[0], "images": counts[1], "beyond": beyond}


def chosen(calibration: Calibration, *, value: float | None = None, rate: float | None = None) -> Calibration:
    """The calibration with a threshold of that value, or for that rate of false alarms; ValueError where there is none."""
    if rate is not None:
        if not calibration.scores:
            raise ValueError("This version has no scores of normal images, so a rate chooses no threshold. Give a threshold.")
        if not 0 < rate < 1:
            raise ValueError("Give more than 0 and fewer than 1,000 false alarms in 1,000 images.")
        return calibration.at_rate(rate)
    if value is None:
        raise ValueError("Give a threshold, or a rate of false alarms.")
    if value == calibration.threshold:
        return calibration
    return calibration.with_threshold(value)


def per_thousand(rate: float) -> str:
    """A rate as a number in 1,000: ``6.7``."""
    return f"{float(f'{1000 * rate:.2g}'):g}"


def expected(calibration: Calibration) -> dict[str, str]:
    """False alarms in 1,000 normal images by the calibration, and what is to be said of them."""
    interval = calibration.false_alarm_interval()
    if interval is None:
        return {"number": "–", "words": "This version has no scores of normal images, so nothing can be expected."}
    low, high = map(per_thousand, interval)
    words = f"in 1,000 normal images; {low} to {high} with 95 % confidence, by {calibration.count:,} normal images"
    return {"number": per_thousand(calibration.false_alarm_rate), "words": words, "warning": warning(calibration)}


def warning(calibration: Calibration) -> str:
    """What a threshold cannot guarantee, with a next step on the page; empty if there is nothing to say."""
    shortfall = calibration.shortfall()
    if shortfall:
        return f"{shortfall}: add images of good parts under Teach, or allow more false alarms under Set."
    return calibration.warning or ""


def observed(recent: Recent, threshold: float) -> dict[str, str]:
    """Alarms in 1,000 images of the last days."""
    span = "24 hours" if recent.days == 1 else f"{recent.days} days"
    if not recent.scores:
        return {"number": "–", "words": f"no image was judged by this version in the last {span}"}
    above, count = recent.above(threshold), len(recent.scores)
    which = "the newest " if count == _MOST_SCORES else ""
    words = f"in 1,000 images: {above:,} of {which}{count:,} of the last {span}, true defects among them"
    return {"number": per_thousand(above / count), "words": words}


def changed(recent: Recent, before: float | None, after: float) -> str:
    """How many verdicts of the last days would have been others."""
    if before is None or not recent.scores:
        return ""
    now, then = recent.above(before), recent.above(after)
    if now == then:
        return "No verdict of these days would have been another."
    count = abs(now - then)
    images = f"{count:,} image{'s' * (count > 1)} of these days"
    return f"{images} would have been called normal." if then < now else f"{images} more would have raised an alarm."


def neighbours(recent: Recent, threshold: float, most: int = 6) -> tuple[list[Judgement], list[Judgement]]:
    """Of the newest images, those with the scores just above a threshold, and just below: the nearest first."""
    falling = sorted(recent.seen, key=lambda one: -one.score)
    above = [one for one in falling if one.score > threshold]
    return above[::-1][:most], falling[len(above) :][:most]


def regions_by_area(recent: Recent, least: float, most: int = 6) -> dict[str, Any]:
    """Of the newest images' regions, how many have the least area, and the nearest of both kinds: (verdict, area, its
    number among the verdict's)."""
    areas = sorted(
        ((float(region["area"]), number, one) for one in recent.seen for number, region in enumerate(one.regions or ())),
        key=lambda each: each[:2],
    )
    cut = bisect_right(areas, least, key=lambda each: math.nextafter(each[0], math.inf))
    small, large = areas[:cut], areas[cut:]
    kept, left = ([(one, area, number) for area, number, one in part[:most]] for part in (large, small[::-1]))
    return {"kept": kept, "left": left, "count": len(large), "of": len(areas), "images": len(recent.seen)}


def described(calibration: Calibration) -> str:
    """What chose a threshold, in words."""
    how = {"rate": "by a rate of false alarms", "tail": "by a fitted tail", "costs": "by costs", "value": "set by hand"}
    return f"{figure(calibration.threshold)}, {how[calibration.chosen_by]}" if calibration.threshold is not None else "none"
