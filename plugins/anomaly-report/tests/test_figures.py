"""Figures: what each shows, when it is left out, and that no state is left behind."""

from __future__ import annotations

import io
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomaly_core import Measure, TestedImage
from anomaly_report.figures.all import PLANS, write_figures
from anomaly_report.figures.curves import Line, draw_pro, draw_roc, image_pr_lines, image_roc_lines, pixel_lines
from anomaly_report.figures.examples import draw_examples, examples
from anomaly_report.figures.history import draw_history
from anomaly_report.figures.scores import draw_scores
from anomaly_report.figures.style import DARK, LIGHT, drawing, to_png
from anomaly_report.finished import FinishedRun

NAMES = {plan.name for plan in PLANS}


def settings() -> dict[str, object]:
    """Matplotlib's settings; to ask for the backend would choose one and import pyplot."""
    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}


def written(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "figures").glob("*.png")}


def curve(x: list[float], y: list[float]) -> dict[str, list[float]]:
    return {"x": x, "y": y}


def test_every_figure_is_a_png_in_both_themes(make_run, tmp_path):
    kinds = {"pixel_roc": curve([0, 1], [0.5, 1]), "pixel_pr": curve([0, 1], [1, 0.1]), "pro": curve([0, 0.3], [0, 0.9])}
    history = [{"epoch": float(n), "train_loss": 1 / n, "val_loss": 1.2 / n} for n in range(1, 6)]
    run = make_run(tmp_path, curves=json.dumps({"m6": kinds}), history=history, figures={"kept_epoch": 4.0})
    before = settings()
    figures = write_figures(FinishedRun.read(run))
    assert settings() == before
    assert "matplotlib.pyplot" not in sys.modules
    assert written(tmp_path) == NAMES
    assert {path.stem for path in (tmp_path / "figures" / "dark").glob("*.png")} == NAMES - {"gallery"}
    for figure in figures:
        start = (tmp_path / figure.light).read_bytes()[:24]
        width, height = struct.unpack(">II", start[16:])
        assert width / height == pytest.approx(figure.width / figure.height, rel=0.01)
        assert (tmp_path / figure.dark).is_file()
    for name, theme in (("roc.png", LIGHT), ("dark/roc.png", DARK)):
        corner = matplotlib.image.imread(tmp_path / "figures" / name)[0, 0, :3]
        assert matplotlib.colors.to_hex(corner) == theme.surface


def test_what_cannot_be_drawn_is_left_out_and_an_earlier_file_goes(make_run, tmp_path):
    rows = [TestedImage("/a.png", "m6", "", None, 1.5)]
    run = make_run(tmp_path, rows=rows, threshold=None, held_out=())
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "roc.png").write_bytes(b"of an earlier run")
    figures = write_figures(FinishedRun.read(run))
    assert written(tmp_path) == {"scores"}
    assert {figure.plan.name for figure in figures if not figure.light} == NAMES - {"scores"}
    assert all(figure.plan.missing for figure in figures)


DAMAGED = ["", "{", "[]", '{"m6": []}', '{"m6": {"pro": {"x": [0, 1], "y": [0]}}}', '{"m6": {"pro": null}}']


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_pixel_curves_are_left_out(make_run, tmp_path, text):
    assert pixel_lines(FinishedRun.read(make_run(tmp_path, curves=text)), "pro", "aupro") == []


def test_a_pixel_curve_has_the_value_of_its_metric_beside_it(make_run, tmp_path):
    text = json.dumps({name: {"pro": curve([0, 0.3], [0, 0.9])} for name in ("a", "b", "c")})
    apart = [Measure.of("aupro", 0.75, categories={"a": 0.5, "b": 1.0, "c": None})]
    run = FinishedRun.read(make_run(tmp_path / "several", curves=text, measures=apart))
    assert [(line.name, line.area) for line in pixel_lines(run, "pro", "aupro")] == [("a", 0.5), ("b", 1.0), ("c", None)]
    run = FinishedRun.read(make_run(tmp_path / "one", curves=text, measures=[Measure.of("aupro", 0.25)]))
    assert [line.area for line in pixel_lines(run, "pro", "aupro")] == [0.25] * 3
    assert [line.area for line in pixel_lines(run, "pro", "pixel_ap")] == [None] * 3


def test_the_roc_line_and_its_point_agree_with_scikit_learn(make_run, tmp_path):
    run = FinishedRun.read(make_run(tmp_path))
    (line,) = image_roc_lines(run)
    scores, labels = run.labelled()
    assert line.area == pytest.approx(roc_auc_score(labels, scores))
    assert np.trapezoid(line.y, line.x) == pytest.approx(line.area)
    assert line.point == ((scores[labels == 0] > 5).mean(), (scores[labels == 1] > 5).mean())
    (line,) = image_pr_lines(run)
    assert line.point[1] == labels[scores > 5].mean()
    assert (np.diff(line.x) >= 0).all()


def test_of_many_categories_the_best_and_the_worst_are_named():
    lines = [Line(f"c{n:02d}", np.array([0.0, 1.0]), np.array([0.0, 1.0]), n / 20) for n in range(15)]
    with drawing(LIGHT):
        figure = draw_roc(lines, LIGHT)
        (legend,) = figure.legends
        texts = [text.get_text().split()[0] for text in legend.get_texts()]
    assert texts == ["c14", "c13", "c12", "c02", "c01", "c00", "9"]


def test_names_with_dollars_underscores_and_foreign_letters_are_drawn(make_run, row, tmp_path):
    rows = [row(f"$a_{n}$.png", n % 2, float(n), category="_$\\frac$ 螺") for n in range(6)]
    history = [{"epoch": 1.0, "train__$x$": 1.0}, {"epoch": 2.0, "train__$x$": 0.5}]
    run = FinishedRun.read(make_run(tmp_path, rows=rows, history=history))
    with drawing(LIGHT):
        assert to_png(draw_roc(image_roc_lines(run), LIGHT)).startswith(b"\x89PNG")
        assert to_png(draw_history(run, LIGHT)).startswith(b"\x89PNG")


def test_the_history_marks_the_kept_epoch(make_run, tmp_path):
    history = [{"epoch": float(n), "train_loss": 1 / n, "val_loss": 1.2 / n, "lr": 0.1, "seconds": 1.0} for n in range(1, 6)]
    run = FinishedRun.read(make_run(tmp_path, history=history, figures={"kept_epoch": 4.0}))
    with drawing(LIGHT):
        figure = draw_history(run, LIGHT)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["fitted images"].get_ydata()) == [row["train_loss"] for row in history]
    assert list(lines["held-out images"].get_ydata()) == [row["val_loss"] for row in history]
    assert list(lines["kept: epoch 4"].get_xdata()) == [4.0, 4.0]


def test_the_histogram_counts_each_image_once(make_run, tmp_path):
    run = FinishedRun.read(make_run(tmp_path))
    with drawing(LIGHT):
        (axes,) = draw_scores(run, LIGHT).axes
    labels = axes.get_legend_handles_labels()[1]
    assert {"normal (20)", "anomalous (20)", "held-out normal (3), beneath", "threshold 5"} <= set(labels)
    assert any(label.startswith("oracle") for label in labels)
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sum(patch.get_height() for patch in bars) == 40


KINDS = {"holdout": "held-out", "folds": "cross-fitted", "leave_one_out": "cross-fitted"}


@pytest.mark.parametrize(("scored_by", "kind"), KINDS.items())
def test_the_histogram_says_what_the_ticks_are(make_run, tmp_path, scored_by, kind):
    run = FinishedRun.read(make_run(tmp_path))
    result = replace(run.result, calibration=replace(run.result.calibration, scored_by=scored_by))
    with drawing(LIGHT):
        (axes,) = draw_scores(replace(run, result=result), LIGHT).axes
    assert f"{kind} normal (3), beneath" in axes.get_legend_handles_labels()[1]


def test_the_examples_are_the_worst_of_their_kind(make_run, example_rows, tmp_path):
    rows = [replace(row, picture=f"maps/{n}.png" if n % 5 else "") for n, row in enumerate(example_rows(120))]
    run = FinishedRun.read(make_run(tmp_path, rows=rows))
    groups = {group.title: group for group in examples(run)}
    by_score = sorted(run.images, key=lambda image: image.score)
    assert groups["Most anomalous"].images == by_score[:-4:-1]
    assert groups["Least anomalous"].images == by_score[:3]
    alarms = [image for image in by_score[::-1] if image.label == 0 and image.score > 5]
    misses = [image for image in by_score if image.label == 1 and image.score <= 5]
    assert groups["False alarms"].images == alarms[:3]
    assert groups["Misses"].images == misses[:3]
    assert len(alarms) > 3 and len(misses) > 3
    with_picture = sum(bool(image.picture) for image in misses)
    assert groups["Misses"].note == f"{with_picture} of {len(misses)} misses are shown in pictures (base.pictures)."
    assert groups["Most anomalous"].note == "" and with_picture < len(misses)


def test_a_broken_picture_does_not_cost_the_figure(make_run, tmp_path):
    run = make_run(tmp_path)
    for path in (tmp_path / "maps").glob("*.png"):
        path.write_bytes(path.read_bytes()[:60])  # size and kind are still there
    png = draw_examples(FinishedRun.read(run), LIGHT)
    assert png is not None
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.convert("RGB").getextrema() != ((255, 255),) * 3


def test_the_overlap_curve_ends_where_aupro_does():
    """Beyond its axes an unclipped line would push the figure's parts out of place, which matplotlib warns of."""
    x = np.linspace(0, 1, 50)
    with drawing(LIGHT):
        figure = draw_pro([Line("m6", x, np.sqrt(x), 0.9)], LIGHT)
        assert to_png(figure)
    (line,) = [found for found in figure.axes[0].get_lines() if len(found.get_xdata()) > 1]
    assert line.get_xdata()[-1] == 0.3
    assert line.get_ydata()[-1] == pytest.approx(np.sqrt(0.3), abs=0.01)
