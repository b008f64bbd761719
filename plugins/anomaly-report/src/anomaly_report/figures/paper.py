"""Charts as files for a paper, by matplotlib's objects alone: no window, no pyplot, no state left behind."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from anomaly_report.figures.chart import Bars, Chart, Curve, Dash, Diamond, Panel, Rule, Shape
from anomaly_report.figures.style import LIGHT

_DPI = 144
_BENEATH = -0.045  # of the axes' height, where ticks lie


def file_of(chart: Chart, kind: str) -> bytes:
    """A chart as a PNG, PDF or SVG file, on white."""
    buffer = io.BytesIO()
    with drawing():
        # Without the date the same run gives the same file.
        date = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        figure_of(chart).savefig(buffer, format=kind, dpi=_DPI, metadata=date)
    return buffer.getvalue()


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib in the report's style, whatever the user's own settings are; they are as before afterwards."""
    settings: dict[Any, Any] = {  # matplotlib types the keys one by one
        "axes.edgecolor": LIGHT["muted"],
        "axes.labelcolor": LIGHT["ink"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LIGHT["grid"],
        "grid.linewidth": 0.8,
        "text.color": LIGHT["ink"],
        "xtick.color": LIGHT["muted"],
        "ytick.color": LIGHT["muted"],
        "font.size": 10,
        "legend.frameon": False,
        "pdf.fonttype": 42,  # letters that can be searched and edited, as publishers ask for
        "svg.hashsalt": "anomaly-report",
        "text.parse_math": False,  # a file's or category's name may hold a dollar sign
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        # A name in letters that matplotlib's own font lacks is drawn as boxes; the page shows it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def figure_of(chart: Chart) -> Figure:
    """The chart in matplotlib's objects."""
    columns = min(len(chart.panels), 2)
    lines = -(-len(chart.panels) // columns)
    size = (5.4 if columns == 1 else 9.6, 3.9 if lines == 1 else 2.8 * lines + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    for number, panel in enumerate(chart.panels):
        _draw_panel(figure.add_subplot(lines, columns, number + 1), panel)
    for shape in chart.legend:
        _draw(figure.axes[0], shape)
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = [_label(shape.label) for shape in chart.keys]
    figure.legend(
        [handles[label] for label in labels],
        labels,
        fontsize=9,
        loc="outside lower center",
        ncols=min(2, (len(labels) + 1) // 2) if columns == 1 else 3,
    )
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for axis, scale in ((panel.x, axes.set_xscale), (panel.y, axes.set_yscale)):
        if axis.log:
            scale("log")
    for shape in panel.shapes:
        _draw(axes, shape)
    x, y = panel.x, panel.y
    axes.set(xlabel=_label(x.label), ylabel=_label(y.label), xlim=(x.low, x.high), ylim=(y.low, y.high))
    for axis, part in ((x, axes.xaxis), (y, axes.yaxis)):
        if axis.log:  # matplotlib's own labels are formulas, which `drawing` shows as they are written
            part.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            part.set_minor_formatter(NullFormatter())
        elif axis.whole:
            part.set_major_locator(MaxNLocator(integer=True))
    if panel.columns:
        axes.grid(axis="x", visible=False)


def _draw(axes: Axes, shape: Shape) -> None:
    colour, label = LIGHT[shape.colour], _label(shape.label) or None
    if isinstance(shape, Bars):
        axes.stairs(shape.counts, shape.edges, fill=True, color=colour, alpha=0.55, label=label)
        axes.stairs(shape.counts, shape.edges, color=colour, linewidth=1.5)
    elif isinstance(shape, Curve):
        style: dict[str, Any] = {"drawstyle": "steps-pre" if shape.steps else "default", "linestyle": _dashes(shape.dash)}
        marker: dict[str, Any] = {"marker": "o" if shape.dots else "", "markersize": 4}
        axes.plot(shape.x, shape.y, color=colour, linewidth=shape.width, label=label, **style, **marker)
    elif isinstance(shape, Rule):
        axes.axvline(shape.at, color=colour, linewidth=shape.width, linestyle=_dashes(shape.dash), label=label)
    elif isinstance(shape, Diamond):
        at = ([], []) if shape.at is None else ([shape.at[0]], [shape.at[1]])
        mark: dict[str, Any] = {"marker": "D", "markersize": 7, "markeredgecolor": LIGHT["surface"], "linestyle": ""}
        axes.plot(*at, color=colour, label=label, clip_on=False, zorder=5, **mark)
    else:
        stroke: dict[str, Any] = {"marker": "|", "markersize": 9, "markeredgewidth": 1.4, "linestyle": ""}
        places = [_BENEATH] * len(shape.at)
        axes.plot(shape.at, places, transform=axes.get_xaxis_transform(), color=colour, label=label, clip_on=False, **stroke)
        axes.tick_params(axis="x", pad=11)


def _dashes(dash: Dash | None) -> Any:
    return "-" if dash is None else (0, dash)


def _label(name: str) -> str:
    """A name as a legend takes it: matplotlib leaves out labels that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name
