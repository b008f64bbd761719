"""Whole trainings from the command line: killed and resumed, on one process and on two."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

SMALL = {
    "data.size": 96,
    "data.train_count": 20,
    "data.good_count": 4,
    "data.bad_count": 6,
    "data.batch_size": 8,
    "data.holdout": 0.2,
    "model.image_size": 64,
    "base.pictures": 0,
}


def arguments(root: Path, output: Path, model: str, *more: str, **options: object) -> list[str]:
    """Of the command line; without a report, which takes longer than fitting on a few images."""
    settings = {**SMALL, "data.root": root, **{key.replace("__", "."): value for key, value in options.items()}}
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    start = ["run", "--model", model, "--data", "sample", "--category", "fabric", "--preset", "edge"]
    return [*start, "--output", str(output), "--no-plugin", "anomaly-report", *pairs, *more]


def complete(output: Path) -> Path:
    """The folder of the only run below a folder, which must be complete."""
    (manifest,) = output.rglob("manifest.json")
    assert json.loads(manifest.read_text())["status"] == "complete"
    return manifest.parent


def run(output: Path, arguments: list[str], launcher: tuple[str, ...] = ()) -> Path:
    """Run to the end, in processes of its own; the run's folder."""
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "anomaly_core", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return complete(output)


def run_warm(commands: Any, output: Path, arguments: list[str]) -> Path:
    """The same in a fork of a process that has imported everything."""
    done = commands(*arguments)
    assert done.code == 0, done.err
    return complete(output)


def scores(folder: Path) -> np.ndarray:
    with (folder / "predictions.csv").open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def uninterrupted(commands: Any, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run that nothing disturbed, and how often it flushed."""
    output = tmp_path_factory.mktemp("whole")
    done = commands(*arguments(root, output, "stfpm", train__epochs=5))
    assert done.code == 0, done.err
    return complete(output), done.writes


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(
    commands: Any, root: Path, tmp_path: Path, uninterrupted: tuple[Path, int]
) -> None:
    whole, writes = uninterrupted
    words = arguments(root, tmp_path, "stfpm", train__epochs=5)
    killed = commands(*words, kill={"write": writes // 3})  # the last ones are those of the end
    assert killed.code == -signal.SIGKILL, "it was over before it could be killed"
    (checkpoint,) = tmp_path.rglob("checkpoints/last.pt")
    assert 1 <= torch.load(checkpoint, weights_only=True)["epoch"] < 5
    folder = run_warm(commands, tmp_path, [*words, "--resume"])
    assert folder == checkpoint.parents[1]
    expected, resumed = load_file(whole / "model.safetensors"), load_file(folder / "model.safetensors")
    assert expected.keys() == resumed.keys()
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name
    assert np.array_equal(scores(folder), scores(whole))
    assert not (folder / "checkpoints").exists()


def test_a_complete_run_is_read_not_repeated(commands: Any, root: Path, uninterrupted: tuple[Path, int]) -> None:
    whole, _ = uninterrupted
    before = (whole / "manifest.json").stat().st_mtime_ns
    output = whole.parents[3]
    assert run_warm(commands, output, arguments(root, output, "stfpm", "--resume", train__epochs=5)) == whole
    assert (whole / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.soak
@pytest.mark.parametrize(("model", "rounding"), [("fastflow", 1e-4), ("stfpm", 0.05)])
def test_two_processes_train_what_one_trains(commands: Any, root: Path, tmp_path: Path, model: str, rounding: float) -> None:
    """Gradients are means over the same batches and batch statistics are joint, so that only rounding differs.

    FastFlow's stays rounding: scores agree to 1e-4. STFPM's student starts at random, and its training amplifies it about
    tenfold an epoch (at a learning rate of 0.02; far more at its usual 0.4): after two epochs scores agree to 5 %, the held-out
    loss to 1 %.
    """
    options = {"train__epochs": 2, "train__keep": "last", **({"model__learning_rate": 0.02} if model == "stfpm" else {})}
    one = run_warm(commands, tmp_path / "1", arguments(root, tmp_path / "1", model, **options))
    two = run(tmp_path / "2", arguments(root, tmp_path / "2", model, "--devices", "2", **options))
    assert json.loads((two / "manifest.json").read_text())["processes"] == 2
    losses = [json.loads((folder / "metrics.json").read_text())["figures"]["val_loss"] for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=min(rounding, 0.01))
    np.testing.assert_allclose(scores(two), scores(one), rtol=rounding)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["patchcore", pytest.param("padim", marks=pytest.mark.soak)])
def test_two_processes_build_the_memory_of_one(commands: Any, root: Path, tmp_path: Path, model: str) -> None:
    """Shares are consecutive and merged in order, only the rounding of smaller batches differs: scores agree to 1e-3."""
    one = run_warm(commands, tmp_path / "one", arguments(root, tmp_path / "one", model))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")  # as users start it
    two = run(tmp_path / "two", arguments(root, tmp_path / "two", model), torchrun)
    assert json.loads((two / "manifest.json").read_text())["processes"] == 2
    np.testing.assert_allclose(scores(two), scores(one), rtol=1e-3)
