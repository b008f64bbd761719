"""Charts as SVG inside the page, which gives them the colours of both themes; they are sharp on any screen and on paper."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from markupsafe import Markup, escape

from anomaly_report.figures.chart import Axis, Bars, Chart, Curve, Diamond, Floats, Panel, Rule, Shape, Ticks

_WIDE, _HIGH = 520, 340  # units of a panel, pixels where it has that width
_TOP, _RIGHT, _BOTTOM = 10, 14, 46
_DIGIT = 7.2  # units that a digit is wide
_BENEATH = 12  # units that ticks beneath the axis take
_FINENESS = 2  # points a unit that a line may turn at: what is finer cannot be seen
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def svg(chart: Chart, title: str) -> Markup:
    """The chart's panels and its legend as HTML; what is in them is escaped.

    Raises:
        ArithmeticError, ValueError: a number is too large to be drawn.
    """
    keys = chart.keys
    told = f"{title}: {', '.join(shape.label for shape in keys)}"
    panels = Markup("").join(_panel(panel, told) for panel in chart.panels)
    legend = Markup("").join(Markup("<li>{}{}</li>").format(_key(shape), shape.label) for shape in keys)
    many = " several" if len(chart.panels) > 1 else ""
    return Markup('<div class="charts{}">{}</div><ul class="legend">{}</ul>').format(many, panels, legend)


def _panel(panel: Panel, told: str) -> Markup:
    beneath = _BENEATH if any(isinstance(shape, Ticks) for shape in panel.shapes) else 0
    marks = _marks(panel.y)
    left = 30 + _DIGIT * max((len(text) for _, text in marks), default=0)
    x, y = _Across(panel.x, left, _WIDE - _RIGHT), _Across(panel.y, _HIGH - _BOTTOM - beneath, _TOP)
    parts = [_grid(panel, x, y, marks, beneath), *(_drawn(shape, x, y) for shape in panel.shapes)]
    parts += [_line("axis", x.start, y.start, x.end, y.start), _line("axis", x.start, y.end, x.start, y.start)]
    parts += _tips(panel, x, y)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDE, _HIGH, f"{told} ({panel.y.label} by {panel.x.label})", Markup("").join(parts)
    )


class _Across:
    """From the values of an axis to units of the drawing."""

    def __init__(self, axis: Axis, start: float, end: float) -> None:
        self.start, self.end, self._log = start, end, axis.log
        self._low, self._high = (math.log(axis.low), math.log(axis.high)) if axis.log else (axis.low, axis.high)

    def __call__(self, values: Floats | float) -> Floats:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            numbers = np.log(values) if self._log else np.asarray(values, dtype=np.float64)
            share = (numbers - self._low) / (self._high - self._low)
            return np.asarray(self.start + share * (self.end - self.start))


def _grid(panel: Panel, x: _Across, y: _Across, marks: list[tuple[float, str]], beneath: float) -> Markup:
    """Lines behind the data, and the numbers and names of the axes."""
    parts = []
    for value, text in marks:
        at = _text(float(y(value)))
        parts.append(_line("grid", x.start, at, x.end, at))
        parts.append(_words(text, x.start - 8, float(y(value)) + 4, "end"))
    for value, text in _marks(panel.x):
        at = _text(float(x(value)))
        parts.append(_line("axis" if panel.columns else "grid", at, y.start + 4 if panel.columns else y.end, at, y.start))
        parts.append(_words(text, float(x(value)), y.start + 18 + beneath, "middle"))
    middle = (y.start + y.end) / 2
    parts.append(_words(panel.x.label, (x.start + x.end) / 2, _HIGH - 8, "middle", "name"))
    turned = Markup('<text class="name" text-anchor="middle" transform="translate(12 {}) rotate(-90)">{}</text>')
    return Markup("").join([*parts, turned.format(_text(middle), panel.y.label)])


def _drawn(shape: Shape, x: _Across, y: _Across) -> Markup:
    if isinstance(shape, Bars):
        edges, tops = x(shape.edges).repeat(2), y(shape.counts.astype(np.float64)).repeat(2)
        points = np.stack([edges, np.concatenate([[y.start], tops, [y.start]])], axis=1)
        return Markup('<path class="bars-of {0}" d="{1}"/>').format(_class(shape.colour), _path(points))
    if isinstance(shape, Curve):
        return _curve(shape, x, y)
    if isinstance(shape, Ticks):
        places = sorted({_text(float(place)) for place in x(shape.at)}, key=float)
        strokes = " ".join(f"M{place} {_text(y.start + 5)}v10" for place in places)
        return Markup('<path class="{}" stroke-width="1.3" d="{}"><title>{}</title></path>').format(
            _class(shape.colour), strokes, shape.label
        )
    if isinstance(shape, Rule):
        at = _text(float(x(shape.at)))
        return Markup('<path class="{}" stroke-width="{}"{} d="M{} {}V{}"><title>{}</title></path>').format(
            _class(shape.colour), shape.width, _dashed(shape.dash), at, _text(y.end), _text(y.start), shape.label
        )
    if shape.at is None:
        return Markup("")
    return _diamond(shape.colour, float(x(shape.at[0])), float(y(shape.at[1])))


def _curve(curve: Curve, x: _Across, y: _Across) -> Markup:
    if not curve.x.size:
        return Markup("")
    points = np.stack([x(curve.x), y(curve.y)], axis=1)
    line = points
    if curve.steps:
        line = np.stack([points[:, 0].repeat(2)[:-1], points[:, 1].repeat(2)[1:]], axis=1)
    drawn = Markup('<path class="{}" stroke-width="{}"{} d="{}"><title>{}</title></path>').format(
        _class(curve.colour), curve.width, _dashed(curve.dash), _path(_thinned(line)), curve.label
    )
    if not curve.dots:
        return drawn
    dot = Markup('<circle class="{}" cx="{}" cy="{}" r="3"><title>{}</title></circle>')
    told = (f"{curve.label}: {value:.4g} at {at:g}" for at, value in zip(curve.x, curve.y, strict=True))
    dots = [
        dot.format(_class(curve.colour, filled=True), _text(place), _text(height), words)
        for (place, height), words in zip(points.tolist(), told, strict=True)
    ]
    return drawn + Markup("").join(dots)


def _thinned(points: Floats) -> Floats:
    """(N, 2) -> the first, the lowest, the highest and the last of the points that lie within one half of a unit of each other
    across: on the screen it is the same line, however many images a test set has."""
    column = np.rint(points[:, 0] * _FINENESS)
    starts = np.flatnonzero(np.diff(column, prepend=np.nan) != 0)
    ends = np.append(starts[1:], len(points))
    kept: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        heights = points[start:end, 1]
        kept += sorted({start, start + int(heights.argmin()), start + int(heights.argmax()), end - 1})
    return points[kept]


def _tips(panel: Panel, x: _Across, y: _Across) -> Iterator[Markup]:
    """What a pointer is told over each column of a histogram."""
    bars = [shape for shape in panel.shapes if isinstance(shape, Bars)]
    if not bars:
        return
    edges = bars[0].edges
    places = x(edges)
    for number in range(len(edges) - 1):
        counts = [f"{bar.counts[number]} {bar.label.rpartition(' (')[0]}" for bar in bars if bar.counts[number]]
        if counts:
            yield Markup('<rect class="tip" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                _text(places[number]),
                _text(y.end),
                _text(places[number + 1] - places[number]),
                _text(y.start - y.end),
                f"{panel.x.label} {edges[number]:.4g} to {edges[number + 1]:.4g}: {', '.join(counts)}",
            )


def _key(shape: Shape) -> Markup:
    """A shape's sign in the legend."""
    if isinstance(shape, Bars):
        inside = Markup('<path class="bars-of {}" d="M1 2H21V12H1Z"/>').format(_class(shape.colour))
    elif isinstance(shape, Diamond):
        inside = _diamond(shape.colour, 11, 7)
    elif isinstance(shape, Ticks):
        inside = Markup('<path class="{}" stroke-width="1.3" d="M11 2v10"/>').format(_class(shape.colour))
    else:
        inside = Markup('<path class="{}" stroke-width="{}"{} d="M0 7H22"/>').format(
            _class(shape.colour), shape.width, _dashed(shape.dash)
        )
    return Markup('<svg viewBox="0 0 22 14" aria-hidden="true">{}</svg>').format(inside)


def _diamond(colour: str, x: float, y: float) -> Markup:
    place = f"M{_text(x)} {_text(y - 6)}l6 6l-6 6l-6 -6Z"
    return Markup('<path class="diamond {}" d="{}"/>').format(_class(colour, filled=True), place)


def _class(colour: str, *, filled: bool = False) -> str:
    return f"of-{colour}{' filled' if filled else ''}"


def _dashed(dash: tuple[float, float] | None) -> Markup:
    return Markup("") if dash is None else Markup(' stroke-dasharray="{} {}"').format(*dash)


def _line(kind: str, x1: float | str, y1: float | str, x2: float | str, y2: float | str) -> Markup:
    ends = [end if isinstance(end, str) else _text(end) for end in (x1, y1, x2, y2)]
    return Markup('<path class="{}" d="M{} {}L{} {}"/>').format(kind, *ends)


def _words(text: str, x: float, y: float, anchor: str, kind: str = "value") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _text(x), _text(y), anchor, escape(text)
    )


def _path(points: Floats) -> str:
    """A path through (N, 2) points; those that would be drawn at the same place, and those on a straight way, are left out."""
    places: list[tuple[str, str]] = []
    for x, y in points.tolist():
        place = _text(x), _text(y)
        if places and place == places[-1]:
            continue
        while len(places) > 1 and any(place[axis] == places[-1][axis] == places[-2][axis] for axis in (0, 1)):
            axis = 0 if place[1] == places[-1][1] else 1
            before, last, new = (float(one[axis]) for one in (places[-2], places[-1], place))
            if not min(before, new) <= last <= max(before, new):
                break
            places.pop()
        places.append(place)
    return "M" + "L".join(f"{x} {y}" for x, y in places)


def _text(number: float) -> str:
    """At most one digit after the point."""
    return f"{round(number, 1):.10g}"


def _marks(axis: Axis, most: int = 7) -> list[tuple[float, str]]:
    """The values with a number beside them, at most about so many, and those numbers."""
    if axis.log:
        return _decades(axis, most)
    rough = (axis.high - axis.low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in _STEPS if power * factor >= rough * (1 - 1e-9))
    step = max(1.0, math.ceil(step)) if axis.whole else step
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    values = [number * step for number in range(first, last + 1)] if last - first <= 2 * most else []
    largest = max(map(abs, values), default=1.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    places += not math.isclose(step * 10**places, round(step * 10**places), rel_tol=1e-6)  # 2.5, 0.25
    if largest < 1e6 and places <= 4:
        return [(value, _minus(f"{value:.{places}f}")) for value in values]
    digits = 1 + max(0, math.ceil(math.log10(largest / step)))
    return [(value, _minus(f"{value:.{min(digits, 15)}g}")) for value in values]


def _decades(axis: Axis, most: int) -> list[tuple[float, str]]:
    """Powers of ten; where there are few, their doubles and fivefolds too."""
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
    apart = max(1, math.ceil((last - first) / most))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    values = [float(f"{factor}e{power}") for power in range(first, last + 1, apart) for factor in factors]
    return [(value, _minus(f"{value:.6g}")) for value in values if axis.low <= value <= axis.high]


def _minus(text: str) -> str:
    """A number as it is printed: a true minus sign, no zeros that say nothing in an exponent."""
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}{exponent and f'e{int(power)}'}".replace("-", "−")
