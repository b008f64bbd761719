"""The grid: failed cells, resuming, kill -9, and the engines of several machines, on miniature trees of MVTec AD's kind."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_core.benchmark import grid, run_grid
from anomaly_core.errors import ConfigError

SMALL = {"model.image_size": 32, "model.widths": [4, 8], "train.epochs": 2, "base.pictures": 0, "data.batch_size": 4}
TIMES = ("fit_seconds", "images_per_second", "peak_memory_mb")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories that can be fitted, and one whose training image is no image."""
    root = tmp_path_factory.mktemp("mvtec")
    random = np.random.default_rng(0)

    def draw(path: Path, spot: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = random.integers(90, 130, (32, 32, 3), dtype=np.uint8)
        if spot:
            image[8:16, 8:16] = 250
        Image.fromarray(image).save(path)

    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:16, 8:16] = 255
    for category in ("bottle", "grid", "torn"):
        for number in range(6):
            draw(root / category / "train" / "good" / f"{number:03d}.png")
        for number in range(3):
            draw(root / category / "test" / "good" / f"{number:03d}.png")
            draw(root / category / "test" / "spot" / f"{number:03d}.png", spot=True)
            truth = root / category / "ground_truth" / "spot" / f"{number:03d}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(truth)
    for path in (root / "torn" / "train" / "good").iterdir():
        path.write_bytes(b"torn")
    return root


@pytest.fixture(autouse=True)
def without_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds a run and have tests of their own."""
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-report")


def options(tree: Path, output: Path, **more: object) -> dict[str, object]:
    return {**SMALL, "data.root": str(tree), "base.output": str(output), **more}


def command(tree: Path, output: Path, *flags: str) -> list[str]:
    settings = [f"{key}={json.dumps(value) if isinstance(value, list) else value}" for key, value in SMALL.items()]
    sets = [part for text in (*settings, f"data.root={tree}") for part in ("--set", text)]
    start = [sys.executable, "-m", "anomaly_core", "benchmark", "--model", "vanilla_ae", "--data", "mvtec"]
    return [*start, "--output", str(output), *sets, *flags]


def table(output: Path) -> list[dict[str, str]]:
    """The rows of results.csv without what may differ from run to run."""
    rows = list(csv.DictReader((output / "benchmark" / "results.csv").read_text().splitlines()))
    return [{name: value for name, value in row.items() if name not in (*TIMES, "folder")} for row in rows]


def test_a_failed_cell_is_reported_and_the_rest_goes_on(tree: Path, tmp_path: Path) -> None:
    cells = grid(["vanilla_ae"], ["mvtec"], categories=["torn", "bottle"], overrides=options(tree, tmp_path))
    torn, bottle = sorted(run_grid(cells), key=lambda cell: cell.category, reverse=True)
    assert "cannot read the image" in torn.error
    assert not torn.metrics
    assert not bottle.error
    assert 0 <= (bottle.metrics["image_auroc"] or 0) <= 1
    assert bottle.resolution == "32 × 32 pixels, the model's input"


def test_resume_runs_only_what_is_not_complete(tree: Path, tmp_path: Path) -> None:
    def once(resume: bool) -> dict[str, str]:
        cells = grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], seeds=[0, 1], overrides=options(tree, tmp_path))
        return {cell.name: cell.folder for cell in run_grid(cells, resume=resume)}

    first = once(resume=False)
    manifest = Path(first["vanilla_ae on mvtec/bottle, seed 1"]) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete"', '"running"'))
    made = {name: (Path(folder) / "manifest.json").stat().st_mtime_ns for name, folder in first.items()}
    again = once(resume=True)
    assert again == first
    now = {name: (Path(folder) / "manifest.json").stat().st_mtime_ns for name, folder in again.items()}
    assert [now[name] == made[name] for name in first] == [True, False]
    assert json.loads(manifest.read_text())["status"] == "complete"


@pytest.mark.soak
def test_killed_and_resumed_it_gives_the_same_table(tree: Path, tmp_path: Path) -> None:
    flags = ("--category", "bottle", "--category", "grid", "--seed", "0", "--set", "train.epochs=6")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(tree, whole, *flags), check=True, capture_output=True)

    process = subprocess.Popen(
        command(tree, killed, *flags), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            states = [json.loads(path.read_text())["status"] for path in killed.glob("mvtec/*/*/*/manifest.json")]
            # in the middle of a cell: one is done, another has at least an epoch's checkpoint
            if "complete" in states and any(killed.glob("mvtec/*/*/*/checkpoints/*")):
                break
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "the grid was done before it could be killed"
    assert not (killed / "benchmark").exists()

    environment = {**os.environ, "ANOMALY_BLOCK": ""}  # the page that belongs to a grid's tables
    del environment["ANOMALY_BLOCK"]
    done = subprocess.run(command(tree, killed, *flags, "--resume"), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert table(killed) == table(whole)
    found = {path.parent.name: path for path in (killed / "mvtec").glob("*/*/*/manifest.json")}
    assert len(found) == 2, "a cell was run into a second folder"
    for path in (whole / "mvtec").glob("*/*/*/metrics.json"):
        category, seed = path.parents[2].name, json.loads((path.parent / "manifest.json").read_text())["seed"]
        (twin,) = [
            other.parent / "metrics.json"
            for other in found.values()
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
def test_two_workers_of_each_engine_give_the_same_table(tree: Path, tmp_path: Path, backend: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'anomaly-core[{backend}]'")
    flags = ("--category", "bottle", "--category", "torn", "--seed", "0", "--seed", "1", "--jobs", "2")
    done = subprocess.run(command(tree, tmp_path / backend, *flags, "--backend", backend), capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # one category is torn, and said to be
    assert "failed: vanilla_ae on mvtec/torn, seed 1: cannot read the image" in done.stdout
    cells = grid(["vanilla_ae"], ["mvtec"], categories=["bottle"], seeds=[0, 1], overrides=options(tree, tmp_path / "here"))
    wanted = [repr(cell.metrics["image_auroc"]) for cell in run_grid(cells)]
    assert [row["image_auroc"] for row in table(tmp_path / backend) if not row["error"]] == wanted


def test_what_the_grid_refuses(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no category nut"):
        grid(["vanilla_ae"], ["mvtec"], categories=["nut"], overrides=options(tree, tmp_path))
    with pytest.raises(ConfigError, match=r"no model of the benchmark has the option model\.neighbors"):
        grid(["vanilla_ae"], ["mvtec"], overrides=options(tree, tmp_path, **{"model.neighbors": 3}))
