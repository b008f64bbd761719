"""Grids that are killed, whose processes die, or that run on the backends of several machines."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from anomaly_benchmark import grid, run_grid

Options = Callable[..., dict[str, Any]]
Process = Callable[..., list[str]]
Table = Callable[[Path], list[dict[str, str]]]
DEADLY_HOOK = """
    import json, os, signal
    from anomaly_core import HookSpec, hookimpl

    class Deadly:
        @hookimpl
        def anomaly_run_start(self, run):
            manifest = json.loads((run.folder / "manifest.json").read_text())
            if (manifest["category"], manifest["seed"]) == ("bottle", 1):
                os.kill(os.getpid(), signal.SIGKILL)

    OBSERVERS = Deadly()
    SPEC = HookSpec(target="deadly_hook:OBSERVERS", summary="kills its process")
"""


@pytest.mark.soak
def test_killed_and_resumed_it_gives_the_same_table(process: Process, table: Table, tmp_path: Path) -> None:
    flags = ("--category", "bottle", "--category", "grid", "--seed", "0", "--set", "train.epochs=6")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(process(whole, *flags), check=True, capture_output=True)

    running = subprocess.Popen(
        process(killed, *flags), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and running.poll() is None:
            states = [json.loads(path.read_text())["status"] for path in killed.glob("mvtec/*/*/*/manifest.json")]
            # in the middle of a cell: one is done, another has at least an epoch's checkpoint
            if "complete" in states and any(killed.glob("mvtec/*/*/*/checkpoints/*")):
                break
            time.sleep(0.01)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert running.returncode == -signal.SIGKILL, "the grid was done before it could be killed"
    assert not list((killed / "benchmark").glob("results.*"))

    environment = {**os.environ}  # with the page that belongs to a grid's tables
    del environment["ANOMALY_BLOCK"]
    done = subprocess.run(process(killed, *flags, "--resume"), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert table(killed) == table(whole)
    manifests = {path.parent.name: path for path in (killed / "mvtec").glob("*/*/*/manifest.json")}
    assert len(manifests) == 2, "a cell was run into a second folder"
    for path in (whole / "mvtec").glob("*/*/*/metrics.json"):
        category, seed = path.parents[2].name, json.loads((path.parent / "manifest.json").read_text())["seed"]
        (twin,) = [
            other.parent / "metrics.json"
            for other in manifests.values()
            if other.parents[2].name == category and json.loads(other.read_text())["seed"] == seed
        ]
        assert twin.read_bytes() == path.read_bytes()
    page = (killed / "benchmark" / "leaderboard.html").read_text()
    assert "vanilla_ae" in page
    assert {item.name for item in (killed / "benchmark").iterdir()} == {
        "results.csv",
        "results.md",
        "results.tex",
        "leaderboard.html",
    }


@pytest.mark.soak
@pytest.mark.parametrize(("backend", "module"), [("loky", "joblib"), ("dask", "distributed"), ("ray", "ray")])
def test_two_workers_of_each_backend_give_the_same_table(
    options: Options, process: Process, table: Table, tmp_path: Path, backend: str, module: str
) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'anomaly-benchmark[{backend}]'")
    flags = ("--category", "bottle", "--category", "torn", "--seed", "0", "--seed", "1", "--jobs", "2")
    done = subprocess.run(process(tmp_path / backend, *flags, "--backend", backend), capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # one category is torn, and said to be
    assert "failed: vanilla_ae on mvtec/torn, seed 1: cannot read the image" in done.stdout
    here = options(**{"base.output": str(tmp_path / "here")})
    cells = run_grid(grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], seeds=[0, 1], overrides=here))
    wanted = [repr(cell.measures["image_auroc"].value) for cell in cells]
    assert [row["image_auroc"] for row in table(tmp_path / backend) if not row["error"]] == wanted


@pytest.mark.soak
@pytest.mark.reliability
def test_a_process_of_a_grid_that_dies_costs_its_cell_alone(process: Process, tmp_path: Path, record) -> None:
    site = tmp_path / "site"
    info = site / "deadly-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[anomaly_core.hooks]\ndeadly = deadly_hook:SPEC\n")
    (site / "deadly_hook.py").write_text(dedent(DEADLY_HOOK))
    flags = ("--jobs", "2", "--category", "bottle", "--category", "grid", "--seed", "0", "--seed", "1")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(process(tmp_path / "out", *flags), capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    rows = list(csv.DictReader((tmp_path / "out/benchmark/results.csv").read_text().splitlines()))
    failed = {(row["category"], row["seed"]): row["error"] for row in rows if row["error"]}
    assert len(rows) == 4 and list(failed) == [("bottle", "1")]
    assert "died twice" in failed["bottle", "1"] and "--resume" in failed["bottle", "1"]
    record("fault", "a process of `benchmark --jobs 2` is killed: its cell is reported, the rest goes on")


@pytest.mark.reliability("fault")
@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), MemoryError("9 TiB")])
def test_a_cell_that_a_plugin_ends_costs_itself_alone(
    error: BaseException, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly_benchmark import grids
    from anomaly_core import stoppable

    cells = grid(["vanilla_ae"], ["mvtec"], categories=["bottle", "grid"], overrides=options())
    real = grids.RunConfig.create

    def create(config: dict[str, Any]) -> Any:
        if config["data"]["category"] == ["bottle"]:
            raise error
        return real(config=config)

    monkeypatch.setattr(grids.RunConfig, "create", create)
    with stoppable():  # as a command has it
        broken, sound = run_grid(cells)
    assert type(error).__name__ in broken.error and broken.measures == {} and sound.error == "" and sound.measures
