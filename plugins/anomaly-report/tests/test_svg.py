"""SVG: lines lie where their values are, marks are round numbers, and what it holds stays text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree  # of our own text

import numpy as np
import pytest

from anomaly_report.figures.chart import Axis, Bars, Chart, Curve, Diamond, Panel, Rule
from anomaly_report.figures.svg import _marks, _thinned, svg


def parsed(chart: Chart, title: str = "T") -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{svg(chart, title)}</div>")


def points(element: ElementTree.Element) -> np.ndarray:
    """The absolute points of a path of M and L."""
    return np.array([list(map(float, pair.split())) for pair in re.split("[ML]", element.attrib["d"])[1:]])


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    (chart,) = root.iter("svg") if len(list(root.iter("svg"))) == 1 else [next(root.iter("svg"))]
    return [element for element in chart.iter() if name in element.attrib.get("class", "").split()]


def placed(root: ElementTree.Element) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset, of x and of y, of the values beside the axes: label = slope * place + offset."""
    marks = of_class(root, "value")
    fits = []
    for anchor, axis in (("middle", "x"), ("end", "y")):
        chosen = [mark for mark in marks if mark.attrib["text-anchor"] == anchor]
        places = [float(mark.attrib[axis]) - (4 if axis == "y" else 0) for mark in chosen]
        fits.append(np.polyfit(places, [float(mark.text.replace("−", "-")) for mark in chosen], 1))
    return fits[0], fits[1]


def test_a_line_lies_where_its_values_are():
    x, y = np.array([-3.0, 0.0, 1.0, 5.0]), np.array([0.5, 20.0, 3.0, 11.0])
    shapes = [Curve(x, y, "series-0", "a"), Diamond((1.0, 3.0), "series-0"), Rule(5.0, "ink", "b")]
    root = parsed(Chart([Panel(Axis("x", -4, 6), Axis("y", 0, 25), shapes)]))
    across, down = placed(root)
    line, rule = (of_class(root, name)[0] for name in ("of-series-0", "of-ink"))
    drawn = points(line)
    assert np.polyval(across, drawn[:, 0]) == pytest.approx(x, abs=0.02)
    assert np.polyval(down, drawn[:, 1]) == pytest.approx(y, abs=0.05)
    assert float(re.match(r"M([\d.]+) ", rule.attrib["d"]).group(1)) == pytest.approx(drawn[3, 0], abs=0.11)


def test_steps_and_bars_turn_at_right_angles():
    curve = Curve(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.8, 0.2]), "series-0", "a", steps=True)
    bars = Bars(np.array([0.0, 0.5, 1.0]), np.array([1, 0]), "normal", "good (1)")
    root = parsed(Chart([Panel(Axis("x", 0, 1), Axis("y", 0, 1), [curve, bars])]))
    across, down = placed(root)
    stairs, outline = points(of_class(root, "of-series-0")[0]), points(of_class(root, "of-normal")[0])
    values = np.stack([np.polyval(across, stairs[:, 0]), np.polyval(down, stairs[:, 1])], 1)
    assert values == pytest.approx(np.array([[0, 1], [0, 0.8], [0.5, 0.8], [0.5, 0.2], [1, 0.2]]), abs=0.01)
    values = np.stack([np.polyval(across, outline[:, 0]), np.polyval(down, outline[:, 1])], 1)
    assert values == pytest.approx(np.array([[0, 0], [0, 1], [0.5, 1], [0.5, 0], [1, 0]]), abs=0.01)
    assert [tip.find("title").text for tip in of_class(root, "tip")] == ["x 0 to 0.5: 1 good"]


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (Axis("", 0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Axis("", -0.006, 0.306), ["0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30"]),
        (Axis("", -7, 7), ["-6", "-4", "-2", "0", "2", "4", "6"]),
        (Axis("", 0, 2.1, whole=True), ["0", "1", "2"]),
        (Axis("", 0, 13, whole=True), ["0", "2", "4", "6", "8", "10", "12"]),
        (Axis("", 1e7, 4e7), ["1e7", "1.5e7", "2e7", "2.5e7", "3e7", "3.5e7", "4e7"]),
        (Axis("", 1e-9, 3.2e-9), ["1e-9", "1.5e-9", "2e-9", "2.5e-9", "3e-9"]),
        (Axis("", 0.4, 60, log=True), ["0.5", "1", "2", "5", "10", "20", "50"]),
        (Axis("", 1e-5, 1e3, log=True), ["1e-5", "0.001", "0.1", "10", "1000"]),
    ],
    ids=lambda value: f"{value.low:g}..{value.high:g}" if isinstance(value, Axis) else "",
)
def test_marks_are_round_numbers(axis, labels):
    marks = _marks(axis)
    assert [text.replace("−", "-") for _, text in marks] == labels
    assert [float(text.replace("−", "-")) for _, text in marks] == pytest.approx([value for value, _ in marks])
    assert all(axis.low <= value <= axis.high for value, _ in marks)


def test_a_line_of_many_points_is_thinned_without_losing_an_end():
    random = np.random.default_rng(0)
    x = np.sort(random.uniform(0, 500, 100_000))
    line = np.stack([x, random.uniform(0, 300, len(x))], 1)
    few = _thinned(line)
    assert len(few) <= 4 * 1001 and (np.diff(few[:, 0]) >= 0).all()
    assert (few[0] == line[0]).all() and (few[-1] == line[-1]).all()
    assert few[:, 1].min() == line[:, 1].min() and few[:, 1].max() == line[:, 1].max()
    assert (_thinned(line[::1000]) == line[::1000]).all(), "a hundred points far apart stay"


def test_names_stay_text():
    hostile = "</svg><script>alert(1)</script>\"'&"
    curve = Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "series-0", hostile, dots=True)
    root = parsed(Chart([Panel(Axis(hostile, 0, 1), Axis(hostile, 0, 1), [curve])]), hostile)
    assert not list(root.iter("script"))
    assert [item.text or "".join(item.itertext()) for item in root.iter("li")] == [hostile]
    assert hostile in next(root.iter("svg")).attrib["aria-label"]


@pytest.mark.parametrize(("low", "high"), [(-1e308, 1e308), (0.0, float("inf")), (1.0, 1.0), (float("nan"), 1.0)])
def test_what_no_axis_holds_is_refused(low, high):
    with pytest.raises(ValueError, match="no axis reaches"):
        Axis("x", low, high)
