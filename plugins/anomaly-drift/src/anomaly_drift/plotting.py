"""The stream in a picture: p-values, the facts that changed most, the evidence, and the alarms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomaly_core import ConfigError, MissingLibrary, write_whole
from anomaly_drift.facts import FACTS

if TYPE_CHECKING:
    from anomaly_drift.alarm import DriftAlarm

FORMATS = (".png", ".svg", ".pdf")
_SHOWN = 3  # facts
_COLOURS = ("#0072B2", "#D55E00", "#009E73")  # told apart by the colour-blind too (Okabe and Ito)


class Point(NamedTuple):
    """An image: its p-value, its facts, and how close the evidence came to the limit (1 is an alarm)."""

    p_value: float | None
    facts: dict[str, float]
    nearness: float


def require_plots(file: Path) -> None:
    """Raises ConfigError for a kind of file that is not written, MissingLibrary without matplotlib."""
    if file.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot writes {', '.join(FORMATS)}, and {file.name!r} is none of these. Give another name.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingLibrary('--plot needs matplotlib, which is not installed: pip install "anomaly-drift[plot]"') from error


def plot(file: Path, points: Sequence[Point], alarms: Sequence[DriftAlarm], usual: dict[str, float]) -> None:
    """Write the picture of a stream.

    Args:
        file: ``.png``, ``.svg`` or ``.pdf``.
        points: the images, in their order.
        alarms: with dashed lines, at the images since which something has changed.
        usual: the median of each fact that changes are stated against; empty before enough images have come to learn it from.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    numbers = range(1, len(points) + 1)
    with mpl.rc_context({"svg.hashsalt": "anomaly-drift", "font.size": 8}):
        figure = Figure(figsize=(8, 6), layout="constrained")
        top, middle, low = figure.subplots(3, 1, sharex=True)
        top.scatter(numbers, [point.p_value or float("nan") for point in points], s=6, color=_COLOURS[0])
        top.set(yscale="log", ylabel="p-value")
        for name, colour in zip(_most_changed(alarms, usual), _COLOURS, strict=False):
            fact = FACTS[name]
            values = [100 * fact.change(usual[name], point.facts[name]) if name in point.facts else None for point in points]
            middle.plot(numbers, values, ".", markersize=3, color=colour, label=name.replace("_", " "))
        middle.set(ylabel="change of a fact, %")
        middle.axhline(0, color="black", linewidth=0.6)
        if usual:
            middle.legend(loc="upper left")
        else:
            middle.set_title("too few images to compare light, sharpness and place with")
        low.plot(numbers, [max(point.nearness, 1e-6) for point in points], color=_COLOURS[0])
        low.axhline(1, color=_COLOURS[1], linewidth=1)
        low.set(yscale="log", ylabel="evidence, share of its limit", xlabel="image")
        low.xaxis.get_major_locator().set_params(integer=True)
        for alarm in alarms:
            for axes in (top, middle, low):
                axes.axvline(alarm.since_number, color="black", linestyle="--", linewidth=0.8)
        buffer = BytesIO()
        date: dict[str, Any] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[file.suffix.lower()]
        figure.savefig(buffer, format=file.suffix.lower()[1:], dpi=150, metadata=date)
    write_whole(file, buffer.getvalue())


def _most_changed(alarms: Sequence[DriftAlarm], known: Collection[str]) -> list[str]:
    """The facts that changed in most alarms; brightness, contrast and sharpness come first where none did."""
    votes = Counter(name for alarm in alarms for name in alarm.facts["changes"])
    return sorted(known, key=lambda name: (-votes[name], list(FACTS).index(name)))[:_SHOWN]
