"""How figures look: two themes with colours that the colour-blind can tell apart (after Okabe and Ito, 2008)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

DPI = 144
SCALE = DPI / 100  # of the file's pixels to the page's: a figure has 100 an inch


@dataclass(frozen=True)
class Theme:
    """Colours of one theme, the same as the page's.

    Attributes:
        surface: behind the figure, as the page's cards have it.
        ink, muted, grid: of text, of what matters less, of lines behind the data.
        normal, anomalous, held_out: of the images of that kind.
        series: of categories and losses, in turn.
    """

    name: str
    surface: str
    ink: str
    muted: str
    grid: str
    normal: str
    anomalous: str
    held_out: str
    series: tuple[str, ...]


LIGHT = Theme(
    name="light",
    surface="#ffffff",
    ink="#1b1f24",
    muted="#59636e",
    grid="#dfe3e8",
    normal="#0072b2",
    anomalous="#d55e00",
    held_out="#59636e",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07c00", "#56b4e9", "#7a4fb5", "#444b54"),
)
DARK = Theme(
    name="dark",
    surface="#1c2128",
    ink="#e6eaef",
    muted="#a3adb8",
    grid="#38404a",
    normal="#56b4e9",
    anomalous="#f08c3a",
    held_out="#a3adb8",
    series=("#56b4e9", "#f08c3a", "#3ecfa3", "#e39cc4", "#f0e442", "#6f9bff", "#b79af0", "#cfd6de"),
)


@contextmanager
def drawing(theme: Theme) -> Iterator[Theme]:
    """Matplotlib in this theme, whatever the user's own settings are; they are as before afterwards."""
    settings: dict[Any, Any] = {  # matplotlib types the keys one by one
        "figure.facecolor": theme.surface,
        "axes.facecolor": theme.surface,
        "savefig.facecolor": theme.surface,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "font.size": 10,
        "legend.frameon": False,
        "lines.linewidth": 2,
        "text.parse_math": False,  # a file's or category's name may hold a dollar sign
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        # A name in letters that matplotlib's own font lacks is drawn as boxes; the page shows it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield theme


def new_figure(width: float = 5.4, height: float = 3.9) -> Figure:
    """An empty figure, inches; its parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def legend(axes: Axes, theme: Theme, *, below: bool = False) -> Legend | None:
    """The legend, beneath the axes where inside it would hide data; None where nothing has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return None
    if not below:
        return axes.legend(handles, labels, fontsize=9, labelcolor=theme.ink)
    columns = 2 if len(handles) > 2 else 1
    return axes.figure.legend(handles, labels, fontsize=9, labelcolor=theme.ink, loc="outside lower center", ncols=columns)


def name_label(name: str) -> str:
    """A name as a legend takes it: matplotlib leaves out labels that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file; photographs are compressed less hard, which takes a third of the time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
    return buffer.getvalue()
