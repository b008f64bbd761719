"""The commands `benchmark` and `compare`: what they print and write, who is told of a grid's end, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_benchmark import Cell, grid, run_grid
from anomaly_core import HookSpec, exclusive, hookimpl, main, registry

Command = Callable[..., list[str]]


@pytest.fixture
def anomaly(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in this process: exit status, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([*arguments])
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), out, err

    return call


class Observer:
    """Keeps what it is told of a grid's end."""

    def __init__(self) -> None:
        self.ends: list[tuple[Path, list[Cell]]] = []

    @hookimpl(optionalhook=True)
    def anomaly_benchmark_end(self, folder: Path, cells: list[Cell]) -> None:
        self.ends.append((folder, cells))
        assert (folder / "results.md").is_file()
        raise ValueError("an observer's fault")


OBSERVER = Observer()


def test_a_grid_prints_and_writes_its_tables_and_tells_its_observers(
    anomaly, command: Command, table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_benchmark.hooks.OBSERVER", OBSERVER, raising=False)
    registry.add("watcher", HookSpec(target="anomaly_benchmark.hooks:OBSERVER"))
    try:
        code, out, err = anomaly(*command(tmp_path, "--category", "bottle", "--category", "torn"))
    finally:
        registry.remove("watcher", "hook")
    assert code == 1, err
    assert "image_auroc" in out and "cost, mean over cells" in out
    assert "failed: vanilla_ae on mvtec/torn, seed 0: cannot read the image" in out
    assert f"tables in {tmp_path / 'benchmark'}" in out
    assert {path.name for path in (tmp_path / "benchmark").iterdir()} == {"results.csv", "results.md", "results.tex"}
    assert [row["category"] for row in table(tmp_path)] == ["bottle", "torn"]
    ((folder, cells),) = OBSERVER.ends
    assert folder == tmp_path / "benchmark"
    assert [bool(cell.folder) for cell in cells] == [True, False]
    assert "warning: the hook anomaly_benchmark_end of" in err and "an observer's fault" in err
    # and where nobody observes it
    code, out, err = anomaly(*command(tmp_path, "--category", "bottle", "--resume"))
    assert (code, err) == (0, "")
    assert [row["error"] for row in table(tmp_path)] == [""]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backend", "spark"], "'spark' is not one of 'loky', 'dask', 'ray'"),
        (["--category", "nut"], "'mvtec' has no category nut. It has: bottle, grid, torn."),
        (["--model", "patchcor"], "no model is called 'patchcor'. Did you mean 'patchcore'?"),
        (["--metric", "image_auc"], "no metric is called 'image_auc'"),
        (["--preset", "huge"], "has no preset 'huge'"),
        (["--set", "model.neighbors=3"], "no model of the benchmark has the option model.neighbors"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_run(
    anomaly, command: Command, tmp_path: Path, flags: list[str], message: str
) -> None:
    code, out, err = anomaly(*command(tmp_path, *flags))
    assert (code, out) == (2, "")
    assert message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.reliability("fault")
def test_a_second_benchmark_in_one_folder_is_refused_before_it_runs_a_cell(
    anomaly, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomaly_core.run.files.PATIENCE", 0.2)
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "results.csv").write_text("of the first")
    with exclusive(tmp_path / "benchmark", "unused"):
        code, out, err = anomaly(*command(tmp_path, "--category", "bottle", "--resume"))
    assert (code, out) == (1, "") and f"another benchmark is writing to {str(tmp_path)!r}" in err and "--output" in err
    assert [path.name for path in tmp_path.rglob("*.*") if path.name != ".lock"] == ["results.csv"]
    (tmp_path / "file").write_text("")
    code, out, err = anomaly(*command(tmp_path / "file", "--category", "bottle"))
    assert (code, out) == (1, "") and "cannot make the folder" in err and "--output" in err


def test_compare_prints_a_table_or_json(anomaly, options: Callable[..., dict[str, Any]]) -> None:
    cells = run_grid(grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], seeds=[0, 1], overrides=options()))
    first, second = (cell.folder for cell in cells)
    code, out, err = anomaly("compare", first, second, "--draws", "200")
    assert code == 0, err
    assert "the others are compared with this one" in out and "6 test images, 200 draws." in out
    code, out, _ = anomaly("compare", first, second, "--json")
    rows = json.loads(out)
    assert [row["folder"] for row in rows] == [first, second]
    assert [row["auroc"] for row in rows] == pytest.approx([cell.measures["image_auroc"].value for cell in cells])
    assert rows[1]["low"] <= rows[1]["difference"] <= rows[1]["high"]
    assert anomaly("compare", first)[0] == 2
    code, _, err = anomaly("compare", first, str(Path(first).parent))
    assert code == 1 and "is not a run's folder" in err
