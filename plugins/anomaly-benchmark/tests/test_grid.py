"""The grid: which cells there are, what failed ones say, resuming, and what is refused before anything is fitted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_benchmark import Cell, grid, run_grid
from anomaly_core import ConfigError, PluginError, registry

Options = Callable[..., dict[str, Any]]


def test_cells_are_every_combination_each_with_its_own_config(options: Options) -> None:
    cells = grid(["vanilla_ae", "vanilla_vae"], ["mvtec"], seeds=[0, 3], overrides=options(**{"model.latent_dim": 4}))
    assert [cell.key for cell in cells[:4]] == [
        ("mvtec", "bottle", "vanilla_ae", 0),
        ("mvtec", "bottle", "vanilla_ae", 3),
        ("mvtec", "bottle", "vanilla_vae", 0),
        ("mvtec", "bottle", "vanilla_vae", 3),
    ]
    assert len({cell.key for cell in cells}) == 3 * 2 * 2
    for cell in cells:
        config = cell.config
        assert (config["data"]["category"], config["base"]["seed"]) == ([cell.category], cell.seed)
        assert (config["model"]["name"], config["model"]["latent_dim"]) == (cell.model, 4)


def test_options_go_to_the_models_that_have_them(options: Options) -> None:
    cells = grid(["vanilla_ae", "vanilla_vae"], ["mvtec"], categories=["grid"], overrides=options(**{"model.beta": 0.5}))
    assert ["beta" in cell.config["model"] for cell in cells] == [False, True]
    assert cells[1].config["model"]["beta"] == 0.5


def test_a_failed_cell_is_reported_and_the_rest_goes_on(options: Options) -> None:
    cells = grid(["vanilla_ae"], ["mvtec"], categories=["torn", "bottle"], overrides=options())
    torn, bottle = sorted(run_grid(cells), key=lambda cell: cell.category, reverse=True)
    assert "cannot read the image" in torn.error
    assert not torn.values
    assert not bottle.error
    assert 0 <= (bottle.values["image_auroc"] or 0) <= 1
    assert bottle.resolution == "32 × 32 pixels, the model's input"


def test_a_cell_has_its_metrics_figures_and_costs_apart(options: Options) -> None:
    (cell,) = run_grid(grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], overrides=options()))
    assert {"image_auroc", "pixel_auroc", "aupro"} <= cell.measures.keys()
    assert cell.measures["image_auroc"].prominence == "headline"
    assert list(cell.costs) == ["fit_seconds", "images_per_second", "peak_memory_mb"]
    assert all(value is not None and value > 0 for value in cell.costs.values())
    metrics = json.loads((Path(cell.folder) / "metrics.json").read_text())
    assert cell.figures == metrics["figures"]
    assert {name: measure.value for name, measure in cell.measures.items()} == {
        name: measure["value"] for name, measure in metrics["metrics"].items()
    }
    assert cell.values.keys() == cell.measures.keys() | cell.figures.keys() | cell.costs.keys()


def test_resume_runs_only_what_is_not_complete(options: Options) -> None:
    def once(resume: bool) -> dict[str, Cell]:
        cells = grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], seeds=[0, 1], overrides=options())
        return {cell.name: cell for cell in run_grid(cells, resume=resume)}

    def times(cells: dict[str, Cell]) -> dict[str, int]:
        return {name: (Path(cell.folder) / "manifest.json").stat().st_mtime_ns for name, cell in cells.items()}

    first = once(resume=False)
    manifest = Path(first["vanilla_ae on mvtec/bottle, seed 1"].folder) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete"', '"running"'))
    before = times(first)
    again = once(resume=True)
    assert {name: cell.folder for name, cell in again.items()} == {name: cell.folder for name, cell in first.items()}
    assert [times(again)[name] == before[name] for name in first] == [True, False]
    assert json.loads(manifest.read_text())["status"] == "complete"
    assert again["vanilla_ae on mvtec/bottle, seed 0"] == first["vanilla_ae on mvtec/bottle, seed 0"]


@pytest.mark.slow
def test_two_processes_give_the_same_values_and_leave_out_what_is_blocked(options: Options, tmp_path: Path) -> None:
    def cells(folder: str) -> list[Cell]:
        more = options(**{"base.output": str(tmp_path / folder)})
        return grid(["vanilla_ae"], ["mvtec"], categories=["torn", "bottle"], seeds=[1, 0], overrides=more)

    registry.block("anomaly-metrics:pixel_ap", "anomaly-report")
    alone, shared = run_grid(cells("alone")), run_grid(cells("shared"), jobs=2)
    assert [cell.measures for cell in shared] == [cell.measures for cell in alone]
    assert [bool(cell.error) for cell in shared] == [cell.category == "torn" for cell in shared]
    assert "pixel_auroc" in shared[0].measures and "pixel_ap" not in shared[0].measures


def test_cells_come_in_the_order_of_the_grid_whichever_is_done_first(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = grid(["vanilla_ae"], ["mvtec"], seeds=[1, 0], overrides=options())
    monkeypatch.setattr("anomaly_benchmark.grids._on_backend", lambda cells, *_: reversed(cells))
    assert run_grid(cells) == cells


def test_a_cell_computes_with_its_share_of_the_threads(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", counts.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_grid(grid(["vanilla_ae"], ["mvtec"], categories=["torn"], overrides=options()))
    assert counts == [3]


def test_what_the_grid_refuses(options: Options) -> None:
    with pytest.raises(ConfigError, match=r"no category nut. It has: bottle, grid, torn"):
        grid(["vanilla_ae"], ["mvtec"], categories=["nut"], overrides=options())
    with pytest.raises(ConfigError, match=r"no model of the benchmark has the option model\.neighbors"):
        grid(["vanilla_ae"], ["mvtec"], overrides=options(**{"model.neighbors": 3}))
    with pytest.raises(PluginError, match=r"no model is called 'vanila_ae'\. Did you mean 'vanilla_ae'"):
        grid(["vanilla_ae", "vanila_ae"], ["mvtec"], overrides=options())
    with pytest.raises(PluginError, match="no metric is called 'image_auc'"):
        grid(["vanilla_ae"], ["mvtec"], overrides=options(**{"base.metrics": ["image_auc"]}))
    cells = grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], overrides=options())
    with pytest.raises(ConfigError, match="--backend spark: choose one of loky, dask, ray"):
        run_grid(cells, backend="spark")
    with pytest.raises(ConfigError, match="runs on this machine alone"):
        run_grid(cells, address="tcp://head:8786")
