"""Figures: what each shows, when it is left out, and their files, which leave no state behind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomaly_core import Measure, TestedImage
from anomaly_report.commands import report
from anomaly_report.figures.chart import Bars, Chart, Curve, Rule, Ticks
from anomaly_report.figures.curves import Line, chart_of_pro, chart_of_roc, image_pr_lines, image_roc_lines, pixel_lines
from anomaly_report.figures.examples import draw_examples, examples
from anomaly_report.figures.history import chart_of_history
from anomaly_report.figures.paper import drawing, figure_of, file_of
from anomaly_report.figures.plans import PLANS, drawn, write_figures
from anomaly_report.figures.scores import chart_of_scores
from anomaly_report.finished import FinishedRun

NAMES = {plan.name for plan in PLANS}
STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def settings() -> dict[str, object]:
    """Matplotlib's settings; to ask for the backend would choose one and import pyplot."""
    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}


def written(folder: Path) -> set[str]:
    return {path.name for path in (folder / "figures").iterdir()}


def curve(x: list[float], y: list[float]) -> dict[str, list[float]]:
    return {"x": x, "y": y}


def labels_of(chart: Chart | None) -> list[str]:
    assert chart is not None
    return [shape.label for shape in chart.keys]


@pytest.fixture
def full_run(make_run, tmp_path) -> Path:
    """A run of which every figure can be drawn."""
    kinds = {"pixel_roc": curve([0, 1], [0.5, 1]), "pixel_pr": curve([0, 1], [1, 0.1]), "pro": curve([0, 0.3], [0, 0.9])}
    history = [{"epoch": float(n), "train_loss": 1 / n, "val_loss": 1.2 / n, "train_kl": 0.5} for n in range(1, 6)]
    return make_run(tmp_path, curves=json.dumps({"m6": kinds}), history=history, figures={"kept_epoch": 4.0})


@pytest.mark.parametrize("kind", STARTS)
def test_the_command_writes_every_figure_as_a_file(full_run, tmp_path, kind):
    before = settings()
    done = CliRunner().invoke(report, [str(full_run), "--figures", kind])
    assert done.exit_code == 0, done.output
    assert settings() == before
    assert "matplotlib.pyplot" not in sys.modules
    assert written(full_run) == {f"{name}.{kind}" for name in NAMES} | {"examples.png"}
    for name in NAMES:
        assert (full_run / "figures" / f"{name}.{kind}").read_bytes().startswith(STARTS[kind])


def test_a_page_elsewhere_has_its_figures_beside_it(full_run, tmp_path):
    page = tmp_path / "pages" / "page.html"
    done = CliRunner().invoke(report, [str(full_run), "--output", str(page), "--figures", "png"])
    assert done.exit_code == 0, done.output
    assert (page.parent / "figures" / "roc.png").is_file() and not (full_run / "figures").exists()
    refused = CliRunner().invoke(report, [str(tmp_path.parent), "--figures", "png"])
    assert refused.exit_code == 2 and "add --each" in refused.output


def test_the_page_holds_its_figures_and_needs_no_matplotlib(full_run):
    code = "import sys; from anomaly_report.report import write_report as write; write(sys.argv[1]); "
    code += "print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(full_run)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    page = (full_run / "report.html").read_text("utf-8")
    figures = {figure.plan.name: figure for figure in drawn(FinishedRun.read(full_run))}
    assert figures.keys() == NAMES
    assert all(figure.drawn and str(figure.drawn) in page for figure in figures.values())
    assert page.count('<svg class="chart"') == len(NAMES) + 1  # two losses
    assert not (full_run / "figures").exists()


def test_what_cannot_be_drawn_is_left_out_and_an_earlier_file_goes(make_run, tmp_path):
    rows = [TestedImage("/a.png", "m6", "", None, 1.5)]
    run = make_run(tmp_path, rows=rows, threshold=None, held_out=())
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "roc.png").write_bytes(b"of an earlier run")
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    read = FinishedRun.read(run)
    assert write_figures(read, tmp_path, "png") == [tmp_path / "figures" / "scores.png"]
    assert written(tmp_path) == {"scores.png", "mine.png"}
    missing = {figure.plan.name: figure.missing for figure in drawn(read) if not figure.drawn}
    assert missing.keys() == NAMES - {"scores"} and all(missing.values())


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
    chart = chart_of_roc(lines)
    names = ["c14", "c13", "c12", "c02", "c01", "c00", "9"]
    assert [label.replace(",", " ").split()[0] for label in labels_of(chart)] == names
    with drawing():
        (legend,) = figure_of(chart).legends
    assert [text.get_text() for text in legend.get_texts()] == labels_of(chart)


def test_names_with_dollars_underscores_and_foreign_letters_are_drawn(make_run, row, tmp_path):
    rows = [row(f"$a_{n}$.png", n % 2, float(n), category="_$\\frac$ 螺") for n in range(6)]
    history = [{"epoch": 1.0, "train__$x$": 1.0}, {"epoch": 2.0, "train__$x$": 0.5}]
    run = FinishedRun.read(make_run(tmp_path, rows=rows, history=history))
    for chart in (chart_of_roc(image_roc_lines(run)), chart_of_history(run)):
        assert chart is not None and file_of(chart, "png").startswith(b"\x89PNG")


def test_the_history_marks_the_kept_epoch(make_run, tmp_path):
    history = [{"epoch": float(n), "train_loss": 1 / n, "val_loss": 1.2 / n, "lr": 0.1, "seconds": 1.0} for n in range(1, 6)]
    run = FinishedRun.read(make_run(tmp_path, history=history, figures={"kept_epoch": 4.0}))
    (panel,) = chart_of_history(run).panels
    shapes = {shape.label: shape for shape in panel.shapes}
    fitted, held_out, kept = (shapes[name] for name in ("fitted images", "held-out images", "kept: epoch 4"))
    assert isinstance(fitted, Curve) and list(fitted.y) == [row["train_loss"] for row in history]
    assert isinstance(held_out, Curve) and list(held_out.y) == [row["val_loss"] for row in history]
    assert isinstance(kept, Rule) and kept.at == 4.0


def test_the_histogram_counts_each_image_once(make_run, tmp_path):
    run = FinishedRun.read(make_run(tmp_path))
    chart = chart_of_scores(run)
    assert {"normal (20)", "anomalous (20)", "held-out normal (3), beneath", "threshold 5"} <= set(labels_of(chart))
    assert any(label.startswith("oracle") for label in labels_of(chart))
    (panel,) = chart.panels
    assert sum(shape.counts.sum() for shape in panel.shapes if isinstance(shape, Bars)) == 40
    assert [list(shape.at) for shape in panel.shapes if isinstance(shape, Ticks)] == [[2.0, 3.0, 5.0]]


KINDS = {"holdout": "held-out", "folds": "cross-fitted", "leave_one_out": "cross-fitted"}


@pytest.mark.parametrize(("scored_by", "kind"), KINDS.items())
def test_the_histogram_says_what_the_ticks_are(make_run, tmp_path, scored_by, kind):
    run = FinishedRun.read(make_run(tmp_path))
    result = replace(run.result, calibration=replace(run.result.calibration, scored_by=scored_by))
    assert f"{kind} normal (3), beneath" in labels_of(chart_of_scores(replace(run, result=result)))


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
    png = draw_examples(FinishedRun.read(run))
    assert png is not None
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.convert("RGB").getextrema() != ((255, 255),) * 3


def test_the_overlap_curve_ends_where_aupro_does():
    x = np.linspace(0, 1, 50)
    chart = chart_of_pro([Line("m6", x, np.sqrt(x), 0.9)])
    (line,) = chart.panels[0].shapes
    assert isinstance(line, Curve) and line.x[-1] == 0.3
    assert line.y[-1] == pytest.approx(np.sqrt(0.3), abs=0.01)
    with drawing():
        assert isinstance(figure_of(chart), Figure)
