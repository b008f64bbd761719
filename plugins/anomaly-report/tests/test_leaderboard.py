"""The leaderboard's numbers: which runs there are, which is best, and the means."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from anomaly_core.benchmark import Cell
from anomaly_core.cli import cli
from anomaly_core.config import RunConfig
from anomaly_report.hooks import OBSERVERS
from anomaly_report.leaderboard import best_of, leaderboard_data, means_over_categories
from anomaly_report.runs import RunRow, read_runs


def complete(name: str, category: str, model: str, *, seed: int = 0, preset: str = "", **metrics: float | None) -> RunRow:
    return RunRow(Path(name), "complete", "", "d", category, model, preset, seed=seed, metrics=metrics)


@pytest.mark.usefixtures("without_figures")
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
    result = CliRunner().invoke(cli, ["report", str(tmp_path), "--each"])
    assert result.exit_code == 0, result.output
    assert "3 complete runs, 5 other" in result.output
    data = json.loads((tmp_path / "leaderboard.html").read_text().partition('id="data">')[2].partition("</script>")[0])
    reports = {run["run"]: run["report"] for run in data["runs"]}
    assert reports["a"] == "bolts/m6/patchcore/a/report.html" and reports["c"] == ""
    assert (tmp_path / reports["h"]).is_file()


def test_an_empty_folder_gives_an_empty_leaderboard(tmp_path):
    result = CliRunner().invoke(cli, ["report", str(tmp_path)])
    assert result.exit_code == 0 and "0 complete runs, 0 other" in result.output


def test_the_best_of_a_group_is_marked_ties_and_direction_included():
    rows = [
        ("x", {"image_auroc": 0.9, "lpips": 0.3}),
        ("x", {"image_auroc": 0.8, "lpips": 0.2}),
        ("x", {"image_auroc": 0.9, "lpips": None}),
        ("y", {"image_auroc": 0.1, "lpips": 0.1}),
    ]
    assert best_of(rows, ["image_auroc", "lpips"]) == [[0], [1], [0], []]


def test_means_are_over_seeds_then_over_categories():
    rows = [
        complete("1", "a", "m", seed=0, image_auroc=0.8),
        complete("2", "a", "m", seed=1, image_auroc=0.6),
        complete("3", "b", "m", seed=0, image_auroc=1.0),
        complete("4", "a", "n", seed=0, image_auroc=0.99),
        complete("5", "b", "m", preset="paper", image_auroc=None),
        RunRow(Path("6"), "failed", "", "d", "c", "m"),
        RunRow(Path("7"), "complete", "", "d", "unified", "m", unified=True, metrics={"image_auroc": 0.5},
               per_category={"a": {"image_auroc": 0.4}, "b": {"image_auroc": 0.6}}),
    ]  # fmt: skip
    means = {(mean["model"], mean["preset"]): mean for mean in means_over_categories(rows)}
    assert means["m", ""]["metrics"]["image_auroc"] == pytest.approx((0.7 + 1.0) / 2)
    assert [means["m", ""][key] for key in ("count", "of", "runs", "seeds")] == [2, 2, 3, 2]
    assert means["m", "paper"]["metrics"]["image_auroc"] is None
    assert means["m, unified", ""]["metrics"]["image_auroc"] == pytest.approx(0.5)
    data = leaderboard_data(Path(), rows, ["image_auroc"])
    best = {(mean["model"], mean["preset"]): mean["best"] for mean in data["means"]}
    # n has the highest value, on one category of two: no fair comparison.
    assert best == {("m", ""): [0], ("m", "paper"): [], ("m, unified", ""): [], ("n", ""): []}


def test_a_grid_has_its_page_with_the_cells_that_failed(tmp_path, make_run):
    done = make_run(tmp_path / "bolts" / "m6" / "patchcore" / "one")
    config = RunConfig.create(model="vanilla_ae", data="sample", overrides={"base.output": str(tmp_path)}).to_dict()
    cells = [
        Cell("bolts", "m6", "patchcore", 0, config, folder=str(done), metrics={"image_auroc": 0.9}),
        Cell("bolts", "m6", "padim", 1, config, error="no <b>memory</b>"),
    ]
    OBSERVERS.anomaly_benchmark_end(tmp_path / "benchmark", cells)
    page = (tmp_path / "benchmark" / "leaderboard.html").read_text()
    assert "1 complete of 2 runs" in page
    assert "no <b>memory" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    complete, failed = data["runs"]
    assert (complete["model"], complete["status"], complete["seed"]) == ("patchcore", "complete", 0)
    assert (failed["model"], failed["status"], failed["seed"]) == ("padim", "failed", 1)
    assert failed["reason"] == "no <b>memory</b>"


def test_pixels_of_two_resolutions_are_neither_averaged_nor_ranked_together(tmp_path):
    rows = [complete(f"r{n}", "m6", "patchcore", pixel_auroc=0.9 - 0.1 * n) for n in range(2)]
    rows.append(replace(complete("r2", "m6", "patchcore", pixel_auroc=0.5), native=True))
    found = leaderboard_data(tmp_path, rows, ["pixel_auroc"])
    assert {mean["model"]: mean["metrics"][0] for mean in found["means"]} == {
        "patchcore": pytest.approx(0.85),
        "patchcore, native pixels": 0.5,
    }
    assert [run["best"] for run in found["runs"]] == [[0], [], []]
    assert found["runs"][2]["model"] == "patchcore, native pixels"
