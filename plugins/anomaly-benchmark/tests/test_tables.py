"""Summaries and tables: what is averaged and shown, which notes stand beside it, and that names stay text."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

import numpy as np
import pytest

from anomaly_benchmark import Cell, Summary, to_csv, to_latex, to_markdown
from anomaly_benchmark.commands.benchmark import print_grid
from anomaly_benchmark.tables import costs, notes, rows
from anomaly_core import Measure

AUROC = Measure("image_auroc", None, prominence="headline")
COSTS = {"fit_seconds": 2.0, "images_per_second": 10.0, "peak_memory_mb": 1234.5}


def measured(*measures: Measure) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures}


def auroc(value: float | None) -> dict[str, Measure]:
    return measured(dataclasses.replace(AUROC, value=value))


@pytest.fixture
def cells() -> list[Cell]:
    """Two models on three categories with two seeds; one fails in the third category."""

    def cell(model: str, category: str, seed: int, value: float | None, error: str = "") -> Cell:
        results: dict[str, Any] = {"error": error} if error else {"measures": auroc(value), "costs": COSTS}
        return Cell("toy", category, model, seed, {}, **results)

    values = {("a_1", "x"): (0.9, 0.8), ("a_1", "y"): (0.7, 0.6), ("b", "x"): (0.5, 0.7), ("b", "y"): (1.0, 1.0)}
    cells = [cell(m, c, seed, value) for (m, c), pair in values.items() for seed, value in enumerate(pair)]
    cells += [cell("a_1", "z", seed, 0.9) for seed in (0, 1)]
    return [*cells, *(cell("b", "z", seed, None, "no memory") for seed in (0, 1))]


def test_tables_average_over_what_every_model_has_done(cells: list[Cell]) -> None:
    summary = Summary(cells)
    assert summary.shared_blocks("image_auroc") == [("toy", "x"), ("toy", "y")]
    header, body = rows(summary, "image_auroc")
    assert header == ["category", "a_1", "b"]
    assert body[0] == ["x", "0.8500", "0.6000"]
    assert body[2] == ["z", "0.9000", "-"]
    mean = summary.spread("a_1", "image_auroc")
    assert mean is not None
    assert (mean.mean, mean.std) == (pytest.approx(0.75), pytest.approx(np.std([0.8, 0.7], ddof=1)))
    assert "failed" in to_markdown(summary)
    assert "b on toy/z, seed 1: no memory" in to_markdown(summary)
    assert r"a\_1" in to_latex(summary)
    table = list(csv.DictReader(to_csv(summary).splitlines()))
    assert len(table) == 12
    assert table[-1]["error"] == "no memory"
    assert costs(summary)[1] == [["a_1", "2", "10", "1234"], ["b", "2", "10", "1234"]]


def test_headlines_are_shown_unless_metrics_are_named(cells: list[Cell]) -> None:
    """What is a headline and in which order is said by the measures: no metric of these names is installed."""
    measures = measured(
        Measure("zeta", 0.3, level="pixel", prominence="headline"),
        Measure("alpha", 0.1, prominence="detail"),
        Measure("gamma", 0.2, prominence="headline"),
        Measure("never", None, "no masks", prominence="headline"),
        Measure("beta", 0.4, prominence="table"),
    )
    cells = [dataclasses.replace(cell, measures=measures) for cell in cells]
    assert Summary(cells).metrics == ["gamma", "zeta"]
    named = [dataclasses.replace(cell, config={"base": {"metrics": ["zeta", "never", "alpha"]}}) for cell in cells]
    assert Summary(named).metrics == ["zeta", "alpha"]


def test_tables_say_what_an_oracle_is_and_at_which_resolution(cells: list[Cell]) -> None:
    cells = [
        dataclasses.replace(
            cell,
            config={"base": {"metrics": ["best_f1", "distance"]}},
            measures=measured(
                Measure("best_f1", 0.9, oracle=True),
                Measure("distance", 0.1 if cell.model == "b" else 0.2, higher_is_better=False),
            ),
            resolution="32 × 32 pixels, the images' own",
        )
        for cell in cells
        if cell.category != "z"
    ]
    named = Summary(cells)
    assert named.metrics == ["best_f1", "distance"]
    for text in (to_markdown(named), to_latex(named)):
        assert "best_f1 (oracle)" in text
        assert "distance (oracle)" not in text
        assert "An oracle's threshold is chosen on the test set itself" in text
        assert "Pixels judged at: 32 × 32 pixels, the images' own." in text
    more = Summary([*cells, *(dataclasses.replace(c, category=f"{c.category}{n}") for c in cells for n in range(2))])
    ranks = more.ranks("distance")
    assert ranks is not None
    assert ranks.mean_ranks["b"] == 1.0  # of a distance, the lower is the better


def test_costs_with_features_shared_on_disk_are_said_not_to_compare(cells: list[Cell]) -> None:
    assert notes(Summary(cells)) == []
    last = dataclasses.replace(cells[-1], config={"model": {"feature_cache": "disk"}})
    (note,) = notes(Summary([*cells[:-1], last]))
    assert "only without model.feature_cache=disk" in note
    assert note in to_markdown(Summary([*cells[:-1], last]))


def test_the_csv_has_metrics_then_figures_then_costs(cells: list[Cell]) -> None:
    first = dataclasses.replace(cells[0], figures={"memory_bank_size": 784.0}, folder="runs/1", resolution="8 × 8 pixels")
    second = dataclasses.replace(cells[1], measures={**cells[1].measures, "pro": Measure("pro", None, "no masks")})
    header, *body = csv.reader(to_csv(Summary([first, second])).splitlines())
    assert header == [
        *("data", "category", "model", "seed", "image_auroc", "pro", "memory_bank_size"),
        *(*COSTS, "pixels_judged_at", "folder", "error"),
    ]
    assert body == [
        ["toy", "x", "a_1", "0", "0.9", "", "784.0", "2.0", "10.0", "1234.5", "8 × 8 pixels", "runs/1", ""],
        ["toy", "x", "a_1", "1", "0.8", "", "", "2.0", "10.0", "1234.5", "", "", ""],
    ]


HOSTILE = (
    "[/bold]",
    "[link=http://x]a[/link]",
    "a | b\nc",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "~^_%$#&{}",
    "=1+1",
)


@pytest.mark.reliability
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_every_table(name: str, capsys: pytest.CaptureFixture[str], record) -> None:
    cells = [Cell("d", name, "m", seed, {}, measures=auroc(0.5)) for seed in (0, 1)]
    summary = Summary([*cells, Cell("d", name, "n", 0, {}, error=name)])
    lines = to_markdown(summary).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines[2:6]}) == 1
    assert not any("<script" in line for line in lines)
    latex = to_latex(summary)
    assert r"\input" not in latex and "_%" not in latex.replace(r"\_\%", "")
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in csv.reader(io.StringIO(to_csv(summary))) for cell in row)
    print_grid(summary)
    assert name.split()[0][:12] in capsys.readouterr().out
    record("security", f"a category named {name!r} in a grid's tables on the screen and in Markdown, LaTeX and CSV", 4)
