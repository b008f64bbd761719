"""What happens to commands that are killed or interrupted: nothing is claimed that is not there, and all of them go on."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import registry
from faults import KEPT, assert_whole, contents, fit, newest, sets, statuses

pytestmark = pytest.mark.reliability


@dataclass(frozen=True)
class Scenario:
    """A command to be killed: how it starts, how it goes on, and what must come out; any command can have one.

    Attributes:
        prepare: makes what the command needs in a folder.
        first, again: the arguments, given the folder.
        outcome: what the folder then holds that an undisturbed one holds too.
    """

    prepare: Callable[[Path], None]
    first: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    outcome: Callable[[Path], Any]


def scenarios(root: Path, finished: Path) -> dict[str, Scenario]:
    def nothing(folder: Path) -> None:
        return

    def copy(folder: Path) -> None:
        shutil.copytree(finished, folder / "run")

    def report(folder: Path) -> dict[str, bytes]:
        pages = [folder / "run" / "report.html", *sorted((folder / "run" / "figures").rglob("*.png"))]
        return {str(page.relative_to(folder)): page.read_bytes() for page in pages}

    def table(folder: Path) -> list[list[str]]:
        rows = csv.DictReader((folder / "benchmark" / "results.csv").read_text().splitlines())
        return [[row[key] for key in ("category", "model", "seed", "image_auroc", "error")] for row in rows]

    def grid(folder: Path) -> list[str]:
        start = ["benchmark", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--category", "fabric"]
        return [*start, "--seed", "0", "--seed", "1", "--no-plugin", "anomaly-report", "--output", str(folder), *sets(root)]

    def evaluate(folder: Path) -> list[str]:
        return ["evaluate", str(folder / "run"), "--no-plugin", "anomaly-report"]

    def export(folder: Path) -> list[str]:
        return ["export", str(folder / "run"), "--format", "onnx"]

    def exported(folder: Path) -> bytes:
        return (folder / "run" / "model.onnx").read_bytes()

    def build(folder: Path) -> list[str]:
        return ["report", str(folder / "run")]

    return {
        "run": Scenario(
            nothing,
            lambda folder: fit(root, folder),
            lambda folder: [*fit(root, folder), "--resume"],
            lambda folder: contents(newest(folder), KEPT),
        ),
        "evaluate": Scenario(copy, evaluate, evaluate, lambda folder: contents(newest(folder), ("predictions.csv",))),
        "report": Scenario(copy, build, build, report),
        "export": Scenario(copy, export, export, exported),
        "benchmark": Scenario(nothing, grid, lambda folder: [*grid(folder), "--resume"], table),
    }


def kill_and_go_on(commands: Any, scenario: Scenario, folder: Path, kill: dict[str, float], expected: Any) -> int:
    folder.mkdir(parents=True)
    scenario.prepare(folder)
    first = commands(*scenario.first(folder), kill=kill)
    assert first.code in (0, -signal.SIGKILL), first.err
    assert_whole(folder)
    again = commands(*scenario.again(folder))
    assert again.code == 0, again.err
    assert_whole(folder)
    assert scenario.outcome(folder) == expected
    return int(first.code != 0)


@pytest.mark.parametrize("step", [1, pytest.param(2, marks=pytest.mark.soak), pytest.param(3, marks=pytest.mark.soak)])
def test_a_killed_run_claims_nothing_and_resumes_to_the_same(commands, root, whole, tmp_path, step, record) -> None:
    """Three flushes in a row, which are every phase of a write."""
    finished, writes = whole
    seed = 7
    moment = random.Random(seed).randint(0, writes - 3) + step
    scenario = scenarios(root, finished)["run"]
    killed = kill_and_go_on(commands, scenario, tmp_path / "out", {"write": moment}, contents(finished, KEPT))
    assert killed == 1
    leftovers = list((tmp_path / "out").rglob(".*.part"))
    assert not leftovers  # a resumed run sweeps what the killed one left
    record("fault", f"kill -9 of `run` at flush {moment} of {writes}", 1, seed=seed)


@pytest.mark.soak
@pytest.mark.parametrize("command", ["run", "evaluate", "report", "benchmark", "export"])
def test_killed_at_random_moments(commands, root, whole, tmp_path, command, soak_minutes, soak_seed, record) -> None:
    """Twenty moments of each command in ten minutes of soak, half of them at a write, half anywhere; on a slow disk, four."""
    if command not in registry.commands:
        pytest.skip(f"no distribution with the command {command} is installed")
    finished, _ = whole
    scenario = scenarios(root, finished)[command]
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    scenario.prepare(undisturbed)
    reference = commands(*scenario.first(undisturbed))
    assert reference.code == 0, reference.err
    expected = scenario.outcome(undisturbed)
    draw, end, killed, tried = random.Random(soak_seed), time.monotonic() + 60 * soak_minutes * 0.2, 0, 0
    while killed < 4 or (killed < 2 * soak_minutes and time.monotonic() < end):
        moment: dict[str, float] = {"after": draw.uniform(0, reference.seconds)}
        if tried % 2 and reference.writes:
            moment = {"write": draw.randint(1, reference.writes)}
        killed += kill_and_go_on(commands, scenario, tmp_path / f"try-{tried}", moment, expected)
        shutil.rmtree(tmp_path / f"try-{tried}")
        tried += 1
    record("fault", f"kill -9 of `{command}` at random moments, then the same command (with --resume)", killed, seed=soak_seed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_goes_on(commands, root, whole, tmp_path, number, code, record) -> None:
    finished, writes = whole
    done = commands(*fit(root, tmp_path), kill={"write": writes // 2, "signal": number})
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert statuses(tmp_path) == ["interrupted"]
    if code == 130:
        assert "--resume" in done.err
    again = commands(*fit(root, tmp_path), "--resume")
    assert again.code == 0, again.err
    assert contents(newest(tmp_path), KEPT) == contents(finished, KEPT)
    record("fault", f"{number.name} in the middle of `run`")


def test_two_runs_differ_where_a_seed_does(whole, commands, root, tmp_path) -> None:
    """What makes `the same` above mean something: another seed gives other weights and scores."""
    done = commands(*fit(root, tmp_path, **{"base.seed": 5}))
    assert done.code == 0, done.err
    other, expected = contents(newest(tmp_path), KEPT), contents(whole[0], KEPT)
    assert all(other[name] != expected[name] for name in KEPT)
    metrics = json.loads((newest(tmp_path) / "metrics.json").read_text())["metrics"]
    assert np.isfinite(metrics["image_auroc"]["value"])
