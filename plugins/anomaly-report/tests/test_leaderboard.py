"""The leaderboard's numbers: which runs there are, which is best, and the means."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sealing import seal

from anomaly_core import Hooks, Measure, Registry, RunConfig, hookspec
from anomaly_report.commands import report
from anomaly_report.hooks import OBSERVERS
from anomaly_report.leaderboard import best_of, leaderboard_data, means_over_categories, metrics_of, write_leaderboard
from anomaly_report.products import told_apart
from anomaly_report.runs import RunRow, read_runs, source_of


def page_data(page: Path) -> dict[str, Any]:
    """What the page's script reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL).group(1))


def measured(**values: float | None) -> dict[str, Measure]:
    return {name: Measure.of(name, value) for name, value in values.items()}


def complete(name: str, category: str, model: str, *, seed: int = 0, preset: str = "", **values: float | None) -> RunRow:
    return RunRow(Path(name), "complete", "", "d", category, model, preset, seed=seed, measures=measured(**values))


def test_complete_incomplete_and_damaged_runs_are_listed(make_run, tmp_path):
    make_run(tmp_path / "bolts/m6/patchcore/a", model="patchcore")
    make_run(tmp_path / "bolts/m8/padim/b", model="padim", manifest={"category": "m8", "seed": 3})
    make_run(tmp_path / "bolts/m8/padim/c", manifest={"status": "failed", "error": "ValueError: no"})
    make_run(tmp_path / "bolts/m8/padim/d", manifest={"status": "running"})
    (make_run(tmp_path / "bolts/m8/padim/e") / "metrics.json").write_text("{")
    (make_run(tmp_path / "bolts/m8/padim/f") / "manifest.json").write_text("[]")
    (make_run(tmp_path / "bolts/m8/padim/g") / "manifest.json").unlink()
    (make_run(tmp_path / "bolts/m8/padim/h") / "config.yaml").write_text("a: [")
    make_run(tmp_path / "bolts/m6/patchcore/a/evaluations/x/y/z/again")
    rows = {row.folder.name: row for row in read_runs(tmp_path)}
    assert sorted(rows) == list("abcdefgh")
    assert [rows[name].status for name in "abcdefgh"] == [
        "complete", "complete", "failed", "running", "damaged", "damaged", "incomplete", "complete",
    ]  # fmt: skip
    assert (rows["b"].dataset, rows["b"].category, rows["b"].model, rows["b"].seed) == ("bolts", "m8", "padim", 3)
    assert rows["c"].reason == "ValueError: no"
    assert all(rows[name].reason for name in "cdefg")
    assert (rows["h"].dataset, rows["h"].model) == ("bolts", "padim")
    assert rows["a"].metrics == {"image_auroc": 0.9, "pixel_auroc": 0.8}
    assert "not what the run wrote" in rows["e"].reason and "metrics.json" in rows["e"].reason
    (again,) = read_runs(tmp_path / "bolts/m8/padim/e", verify=False)
    assert again.status == "damaged" and "Expecting" in again.reason
    result = CliRunner().invoke(report, [str(tmp_path), "--each"])
    assert result.exit_code == 0, result.output
    assert "3 complete runs, 5 other" in result.output
    data = page_data(tmp_path / "leaderboard.html")
    reports = {run["run"]: run["report"] for run in data["runs"]}
    assert reports["a"] == "bolts/m6/patchcore/a/report.html" and reports["c"] == ""
    assert (tmp_path / reports["h"]).is_file()


def test_an_empty_folder_gives_an_empty_leaderboard(tmp_path):
    result = CliRunner().invoke(report, [str(tmp_path)])
    assert result.exit_code == 0 and "0 complete runs, 0 other" in result.output


def test_the_best_of_a_group_is_marked_ties_and_direction_included():
    rows = [
        ("x", {"image_auroc": 0.9, "lpips": 0.3}),
        ("x", {"image_auroc": 0.8, "lpips": 0.2}),
        ("x", {"image_auroc": 0.9, "lpips": None}),
        ("y", {"image_auroc": 0.1, "lpips": 0.1}),
    ]
    metrics = [Measure("image_auroc", None), Measure("lpips", None, higher_is_better=False)]
    assert best_of(rows, metrics) == [[0], [1], [0], []]


def test_means_are_over_seeds_then_over_categories():
    rows = [
        complete("1", "a", "m", seed=0, image_auroc=0.8),
        complete("2", "a", "m", seed=1, image_auroc=0.6),
        complete("3", "b", "m", seed=0, image_auroc=1.0),
        complete("4", "a", "n", seed=0, image_auroc=0.99),
        complete("5", "b", "m", preset="paper", image_auroc=None),
        RunRow(Path("6"), "failed", "", "d", "c", "m"),
        RunRow(Path("7"), "complete", "", "d", "unified", "m", unified=True,
               measures={"image_auroc": Measure.of("image_auroc", 0.5, categories={"a": 0.4, "b": 0.6})}),
    ]  # fmt: skip
    means = {(mean["model"], mean["preset"]): mean for mean in means_over_categories(rows)}
    assert means["m", ""]["metrics"]["image_auroc"] == pytest.approx((0.7 + 1.0) / 2)
    assert [means["m", ""][key] for key in ("count", "of", "runs", "seeds")] == [2, 2, 3, 2]
    assert means["m", "paper"]["metrics"]["image_auroc"] is None
    assert means["m, unified", ""]["metrics"]["image_auroc"] == pytest.approx(0.5)
    data = leaderboard_data(Path(), rows, metrics_of(rows))
    best = {(mean["model"], mean["preset"]): mean["best"] for mean in data["means"]}
    # n has the highest value, on one category of two: no fair comparison.
    assert best == {("m", ""): [0], ("m", "paper"): [], ("m, unified", ""): [], ("n", ""): []}


@dataclass
class Cell:
    """A cell of a grid, as far as it is read."""

    data: str
    category: str
    model: str
    seed: int
    config: dict[str, Any]
    folder: str = ""
    error: str = ""


def test_a_grid_has_its_page_with_the_cells_that_failed(tmp_path, make_run):
    done = make_run(tmp_path / "bolts" / "m6" / "patchcore" / "one")
    config = RunConfig.create(model="vanilla_ae", data="sample", overrides={"base.output": str(tmp_path)}).to_dict()
    cells = [
        Cell("bolts", "m6", "patchcore", 0, config, folder=str(done)),
        Cell("bolts", "m6", "padim", 1, config, error="no <b>memory</b>"),
    ]
    OBSERVERS.anomaly_benchmark_end(tmp_path / "benchmark", cells)
    page = (tmp_path / "benchmark" / "leaderboard.html").read_text()
    assert "1 complete of 2 runs" in page
    assert "no <b>memory" not in page
    data = page_data(tmp_path / "benchmark" / "leaderboard.html")
    complete, failed = data["runs"]
    assert (complete["model"], complete["status"], complete["seed"]) == ("patchcore", "complete", 0)
    assert (failed["model"], failed["status"], failed["seed"]) == ("padim", "failed", 1)
    assert failed["reason"] == "no <b>memory</b>"


def test_pixels_of_two_resolutions_are_neither_averaged_nor_ranked_together(tmp_path):
    rows = [complete(f"r{n}", "m6", "patchcore", pixel_auroc=0.9 - 0.1 * n) for n in range(2)]
    rows.append(replace(complete("r2", "m6", "patchcore", pixel_auroc=0.5), native=True))
    data = leaderboard_data(tmp_path, rows, metrics_of(rows))
    assert {mean["model"]: mean["metrics"][0] for mean in data["means"]} == {
        "patchcore": pytest.approx(0.85),
        "patchcore, native pixels": 0.5,
    }
    assert [run["best"] for run in data["runs"]] == [[0], [], []]
    assert data["runs"][2]["model"] == "patchcore, native pixels"


def test_a_failed_cell_is_the_run_that_it_left(make_run, tmp_path):
    config = RunConfig.create(model="vanilla_ae", data="sample", overrides={"base.output": str(tmp_path)})
    left = make_run(tmp_path / "sample" / "m6" / "vanilla_ae" / "left", manifest={"status": "failed", "error": "of the run"})
    (left / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    cell = Cell("sample", "m6", "vanilla_ae", 3, config.to_dict(), error="of the grid")
    OBSERVERS.anomaly_benchmark_end(tmp_path, [cell])
    (run,) = page_data(tmp_path / "leaderboard.html")["runs"]
    assert (run["run"], run["status"], run["reason"], run["seed"]) == ("left", "failed", "of the grid", 3)


class GridHooks:
    @hookspec
    def anomaly_benchmark_end(self, folder: Any, cells: Any) -> None:
        """As anomaly-benchmark has it."""


def test_the_hook_of_a_grid_is_called_and_not_missed_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly-report")
    failures: list[str] = []
    Hooks(Registry(), failures.append)
    Hooks(Registry(), failures.append, GridHooks).call("anomaly_benchmark_end", folder=tmp_path, cells=[])
    assert (tmp_path / "leaderboard.html").is_file() and failures == []


def test_a_metric_is_named_ranked_and_marked_as_the_runs_describe_it(make_run, tmp_path):
    def run(name: str, value: float, title: str, started: float) -> None:
        missed = Measure("missed", value, title=title, meaning="Overlooked.", prominence="headline", higher_is_better=False)
        chosen = Measure("best_f9", 0.5, title="Best F9", meaning="-", level="pixel", prominence="table", oracle=True)
        detail = Measure("detail", 0.5, title="Detail", meaning="-")
        folder = tmp_path / "bolts" / "m6" / "patchcore" / name
        make_run(folder, measures=[missed, chosen, detail, Measure.of("image_ap", 0.9)], manifest={"started": started})

    run("a", 3.0, "Missed", 2.0)
    run("b", 1.0, "Missed, as it was called", 1.0)
    page = write_leaderboard(tmp_path)
    assert "Overlooked." in page.read_text()
    data = page_data(page)
    assert [(m["name"], m["title"], m["oracle"], m["shown"]) for m in data["metrics"]] == [
        ("missed", "Missed", False, True),
        ("image_ap", "Image AP", False, True),
        ("detail", "Detail", False, False),
        ("best_f9", "Best F9", True, False),
    ]
    assert {run["run"]: run["best"] for run in data["runs"]} == {"a": [1, 2, 3], "b": [0, 1, 2, 3]}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "it has no 'metrics'"),
        ({"metrics": {}}, "it has no 'resolution'"),
        ({"metrics": {"m": {"title": "M"}}}, "value"),
        ({"metrics": {"m": {"value": 1, "title": None}}}, "title"),
        ({"metrics": {"m": {"value": 1, "level": "video"}}}, "video"),
        ({"metrics": {"m": 3}}, "mapping"),
    ],
)
def test_metrics_that_cannot_be_shown_are_a_damaged_run(make_run, tmp_path, facts, reason):
    (make_run(tmp_path / "run") / "metrics.json").write_text(json.dumps(facts))
    seal(tmp_path / "run")
    (row,) = read_runs(tmp_path)
    assert row.status == "damaged" and reason in row.reason and row.reason.startswith("metrics.json: "), row.reason
    assert row.dataset == "bolts"


def test_what_is_no_number_is_damage(make_run, tmp_path):
    folder = make_run(tmp_path / "run", measures=[Measure.of("image_ap", 0.5, categories={"a": 0.5, "b": 0.5})])
    text = (folder / "metrics.json").read_text()
    (folder / "metrics.json").write_text(text.replace('"value": 0.5,', '"value": NaN,').replace('"b": 0.5', '"b": Infinity'))
    (row,) = read_runs(tmp_path)
    assert (row.status, row.metrics) == ("damaged", {}) and "metrics.json" in row.reason
    write_leaderboard(tmp_path)


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ({"name": "folder", "normal": "line1/good/"}, "line1/good"),
        ({"name": "folder", "normal": ["a/ok", "b/ok"], "root": None}, "a/ok, b/ok"),
        ({"name": "folder", "root": "/parts", "normal": None}, "/parts"),
        ({"name": "folder", "normal": "good", "product": "cap"}, ""),
        ({"name": "mvtec", "root": "/data/mvtec"}, ""),  # the same wherever it lies
        ({"name": "folder", "normal": {"a": 1}, "list": [[["x"]]]}, ""),
        ({"name": ["x"], "root": "y"}, "y"),
        ({}, ""),
    ],
)
def test_where_a_runs_images_lie(data, source):
    assert source_of(data).replace("\\", "/") == source


def test_two_products_whose_folders_share_a_name_are_no_one_product(make_run, tmp_path):
    for name, root in (("a", "/data/line1/caps/set"), ("b", "/data/line2/caps/set"), ("c", "/data/line2/caps/set")):
        folder = make_run(tmp_path / "folder" / "m6" / "patchcore" / name, dataset="folder")
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("  name: folder", f"  name: folder\n  root: {root}"))
        seal(folder)
    data = page_data(write_leaderboard(tmp_path))
    assert [run["category"] for run in data["runs"]] == ["m6 (line1/caps/set)", *["m6 (line2/caps/set)"] * 2]
    assert [run["best"] for run in data["runs"]] == [[], [0, 1], [0, 1]]  # none is better than one of another product
    (mean,) = data["means"]
    assert (mean["count"], mean["of"], mean["runs"]) == (2, 2, 3)


def test_a_unified_run_has_the_place_at_each_of_its_products():
    rows = [
        replace(complete(str(n), "x", "m", image_auroc=0.5), source=source)
        for n, source in enumerate(["", "p/1", "p/1", "q/1"])
    ]
    shared = {"image_auroc": Measure.of("image_auroc", 0.5, "", {"x": 0.4, "y": 0.6})}
    rows.append(replace(rows[3], category="unified", measures=shared, unified=True))
    told = told_apart(rows)
    assert [row.place for row in told] == ["", " (p/1)", " (p/1)", " (q/1)", " (q/1)"]
    assert list(told[-1].by_category) == ["x (q/1)", "y (q/1)"]
    assert told_apart(rows[:3]) == rows[:3]
