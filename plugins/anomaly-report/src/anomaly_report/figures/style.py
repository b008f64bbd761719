"""The colours of the charts in light and in dark, such as the colour-blind can tell apart (after Okabe and Ito, 2008)."""

from __future__ import annotations

SERIES = 8  # colours of categories and losses, in turn

# By what has the colour; surface, ink, muted and grid are the page's own.
LIGHT = {
    "surface": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#59636e",
    "grid": "#dfe3e8",
    "pale": "#b9c1ca",
    "normal": "#0072b2",
    "anomalous": "#d55e00",
    "series-0": "#0072b2",
    "series-1": "#d55e00",
    "series-2": "#009e73",
    "series-3": "#cc79a7",
    "series-4": "#b07c00",
    "series-5": "#56b4e9",
    "series-6": "#7a4fb5",
    "series-7": "#444b54",
}
DARK = {
    "surface": "#1c2128",
    "ink": "#e6eaef",
    "muted": "#a3adb8",
    "grid": "#38404a",
    "pale": "#5d6875",
    "normal": "#56b4e9",
    "anomalous": "#f08c3a",
    "series-0": "#56b4e9",
    "series-1": "#f08c3a",
    "series-2": "#3ecfa3",
    "series-3": "#e39cc4",
    "series-4": "#f0e442",
    "series-5": "#6f9bff",
    "series-6": "#b79af0",
    "series-7": "#cfd6de",
}


def series(number: int) -> str:
    """The name of the colour of a category or loss."""
    return f"series-{number % SERIES}"
