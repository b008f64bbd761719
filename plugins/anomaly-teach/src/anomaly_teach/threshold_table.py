"""The table of ``anomaly threshold``: what each false-alarm rate costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anomaly_core import Calibration, TestedImage
from anomaly_teach.threshold_tail import Tail

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
NEW = 1000  # good images, of which the table says how many will be called anomalous
LEVEL = 0.95


@dataclass(frozen=True)
class Counts:
    """Verdicts on a test set at a threshold: images, and how many of them are called anomalous."""

    defects: int
    found: int
    good: int
    alarms: int

    @classmethod
    def of(cls, rows: Iterable[TestedImage], threshold: float) -> Counts:
        """The counts of the images with a label and a score."""
        labelled = [(row.label, row.score > threshold) for row in rows if row.label is not None and not row.error]
        defects, good = ([called for label, called in labelled if label == one] for one in (1, 0))
        return cls(len(defects), sum(defects), len(good), sum(good))

    def __str__(self) -> str:
        found = f"found {self.found} of {self.defects} defects" if self.defects else ""
        alarms = f"{self.alarms} false alarm{'' if self.alarms == 1 else 's'} in {self.good} good images" if self.good else ""
        return ", ".join(filter(None, [found, alarms]))


@dataclass(frozen=True)
class Row:
    """A choice of the threshold.

    Attributes:
        choice: a false-alarm rate, or what else chose it, in words.
        calibration: with that threshold; None if the scores do not support the rate.
        note: what to know of it.
        current: whether it is the present one.
    """

    choice: str
    calibration: Calibration | None
    note: str = ""
    current: bool = False


def smallest_rate(count: int) -> float:
    """The smallest rate that so many scores support, rounded up to a hundredth of a percent."""
    return math.ceil(round(10_000 / (count + 1), 6)) / 10_000


def at_tail(calibration: Calibration, tail: Tail, rate: float) -> Calibration:
    """The calibration with the threshold that the fitted tail gives for a rate."""
    fitted = tail.threshold(rate)
    return calibration.with_threshold(
        fitted.value,
        f"the fitted tail of {calibration.count} normal images",
        chosen_by="tail",
        false_alarm_rate=fitted.rate,
        interval=fitted.rate_interval,
        warning=f"the threshold for {100 * rate:.3g} % false alarms is an extrapolation beyond the {calibration.count} images: "
        f"a curve through their upper scores gives {fitted.value:.5g}, and {fitted.value_interval[0]:.5g} to "
        f"{fitted.value_interval[1]:.5g} with 95 % confidence.",
    )


def rows_of(calibration: Calibration, tail: Tail | None = None) -> list[Row]:
    """The rows, the highest rate first; the present threshold is among them."""
    count, own = len(calibration.scores), calibration.false_alarm_rate
    by_rate = calibration.chosen_by == "rate" and calibration.threshold is not None
    rates = {*RATES, *([own] if by_rate else [])}
    if smallest_rate(count) > min(RATES):
        rates.add(smallest_rate(count))
    rows = []
    for rate in sorted(rates, reverse=True):
        choice, current, needed = f"{100 * rate:.3g} %", by_rate and rate == own, calibration.images_for(rate)
        if current:
            note = "" if count >= needed else f"the greatest score; needs {needed} images"
            rows.append(Row(choice, calibration, note, True))
        elif count >= needed:
            rows.append(Row(choice, calibration.at_rate(rate)))
        elif tail is not None:
            rows.append(Row(choice, at_tail(calibration, tail, rate), "tail: extrapolated"))
        else:
            rows.append(Row(choice, None, f"needs {needed} images"))
    if not by_rate and calibration.threshold is not None:
        chosen = {"tail": f"{100 * own:.3g} % by the tail", "costs": "by costs", "value": "by hand"}[calibration.chosen_by]
        rows.append(Row(chosen, calibration, "", True))
        rows.sort(key=lambda row: -math.inf if row.calibration is None else -(row.calibration.threshold or 0.0), reverse=True)
    return rows


def expected_alarms(calibration: Calibration) -> tuple[float, int, int] | None:
    """(expected, fewest, most) alarms in 1,000 new normal images, the interval with 95 % probability; None without scores.

    For a rank of the scores: the beta-binomial distribution, for any distribution of the scores (David and Nagaraja, Order
    Statistics, 2003, 2.3 and 7.3). Else: the binomial distributions at the ends of the rate's interval, which is wider.
    """
    from scipy import stats

    interval = calibration.false_alarm_interval()
    if interval is None or not calibration.scores or calibration.threshold is None:
        return None
    if calibration.chosen_by == "rate":
        above = calibration.above(calibration.threshold)
        if above < calibration.count:
            alarms = stats.betabinom(NEW, above + 1, calibration.count - above)
            low, high = alarms.interval(LEVEL)
            return float(alarms.mean()), int(low), int(high)
    fewest, most = (stats.binom.ppf(p, NEW, rate) for p, rate in zip((0.025, 0.975), interval, strict=True))
    return NEW * calibration.false_alarm_rate, max(int(fewest), 0), int(most)


def written(rows: Sequence[Row], tested: Sequence[TestedImage]) -> list[str]:
    """The table's lines: plain text, in columns."""
    at = [Counts.of(tested, row.calibration.threshold or 0.0) if row.calibration else None for row in rows]
    defects, good = any(counts and counts.defects for counts in at), any(counts and counts.good for counts in at)
    lines = [["", "false alarms", "threshold", f"alarms in {NEW:,} good images"]]
    lines[0] += ["defects found *"] * defects + ["false alarms *"] * good
    for row, counts in zip(rows, at, strict=True):
        cells = [">" if row.current else "", row.choice]
        if row.calibration is None or counts is None:
            cells += ["-", "-"] + ["-"] * (defects + good)
        else:
            alarms = expected_alarms(row.calibration)
            cells.append(f"{row.calibration.threshold:.6g}")
            cells.append("-" if alarms is None else f"about {alarms[0]:.3g}, {alarms[1]} to {alarms[2]}")
            cells += [f"{counts.found} of {counts.defects}"] * defects + [f"{counts.alarms} of {counts.good}"] * good
        lines.append([*cells, row.note])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = [" ".join(f" {cell:>{width}}" for cell, width in zip(line, widths, strict=False)) for line in lines]
    notes = [f"   {line[-1]}" if len(line) > len(widths) else "" for line in lines]
    return [(text + note).rstrip() for text, note in zip(shown, notes, strict=True)]
