"""Damaged run folders through every command that reads them: the same verdicts as undamaged, or one clear error.

``make soak`` tries 2,000 of them, and MUTATIONS=10000 that many; SOAK_SEED repeats them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import re
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mutations import copied, mutate
from sealing import seal

from anomaly_core import AnomalyError, RunFolder, main, registry, run_experiment
from anomaly_predict import evaluate, load_run
from faults import config

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
MUTATIONS = int(os.environ.get("MUTATIONS", "2000"))
LONGEST = 30  # seconds, after which a command hangs
COMMANDS = ["predict"] * 16 + ["compare"] * 6 + ["resume"] * 4 + ["evaluate"] * 2 + ["report", "export"]


class Subject(NamedTuple):
    """An undamaged run, images to score, and what each command says of it."""

    run: Path
    images: Path
    expected: dict[str, Any]


@pytest.fixture(scope="module", params=["patchcore", "vanilla_ae"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anomaly_report.report.write_report", lambda folder: None)
        overrides = {"train.epochs": 1} if request.param == "vanilla_ae" else {}
        settings = config(folder / "data", folder / "runs", model=request.param, **overrides)
        run = run_experiment(settings).folder
    images = folder / "images"
    images.mkdir()
    for number, path in enumerate(sorted((folder / "data").rglob("test/*/*.png"))[:3]):
        shutil.copy(path, images / f"{number}.png")
    expected = {name: told(name, run, images) for name in ("predict", "evaluate", "compare", "resume")}
    yield Subject(run, images, expected)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """An AssertionError in what takes longer."""

    def late(number: int, frame: Any) -> None:
        raise AssertionError(f"it hangs: nothing for {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def command(*arguments: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with at_most(LONGEST):
                main([*map(str, arguments)])
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue(), err.getvalue()
        finally:
            registry._blocked = set()
            registry.refresh()
    raise AssertionError("a command that does not end")


def told(name: str, run: Path, images: Path, *more: str) -> Any:
    """What a command decides about a run: rows, or None where it said one clear error instead."""
    if name == "resume":
        return _without_command(RunFolder(run, "--no-verify" not in more))
    arguments: dict[str, list[Any]] = {
        "predict": ["predict", run, images, "--device", "cpu"],
        "evaluate": ["evaluate", run, "--device", "cpu", "--no-plugin", "report"],
        "compare": ["compare", run, run, "--draws", "100", "--json"],
        "report": ["report", run],
        "export": ["export", run, "--format", "torchscript", "--images", "1", "--output", run.parent / "model.pt"],
    }
    code, out, err = command(*arguments[name], *more)
    assert "Error: unexpected" not in err and "Traceback" not in err, err
    if code:
        assert code in (1, 2) and len(re.findall(r"^Error: ", err, re.MULTILINE)) == 1, (code, err)
        assert len(err.strip()) > 40, err
        return None
    if name == "predict":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert all(math.isfinite(float(row["score"])) and row["is_anomalous"] in ("", "0", "1") for row in rows), out
        return [[Path(row["path"]).name, row["score"], row["is_anomalous"], row["p_value"]] for row in rows]
    if name == "evaluate":
        newest = max((run / "evaluations").rglob("predictions.csv"))
        rows = list(csv.DictReader(io.StringIO(newest.read_text("utf-8"))))
        return [[row["path"], row["score"], row["is_anomalous"], row["p_value"]] for row in rows]
    return [{**row, "folder": ""} for row in json.loads(out)] if name == "compare" else out and True


def _without_command(run: RunFolder) -> Any:
    """What `run --resume` reads of a complete run."""
    try:
        with at_most(LONGEST):
            return [row.to_row() for row in run.result().predictions]
    except AnomalyError as error:
        assert len(str(error)) > 40
        return None


def attack(subject: Subject, folder: Path, number: int, seed: int) -> None:
    chance = random.Random(seed * 1_000_003 + number)
    run = copied(subject.run, folder / "run")
    what = mutate(run, chance)
    name = chance.choice(COMMANDS)
    case = f"{name} after {what} (number {number}, seed {seed})"
    sealed = chance.random() < 0.3
    try:
        if sealed:  # whoever damages a file may write its SHA-256 too: other verdicts are then possible, odd ones are not
            with_sums = not what.startswith("manifest") and all(not path.is_symlink() for path in run.iterdir())
            if with_sums:
                seal(run)
            told(name, run, subject.images, *([] if with_sums else ["--no-verify"]))
            return
        answer = told(name, run, subject.images)
        assert answer is None or name in ("report", "export") or answer == subject.expected[name]
    except AssertionError as error:
        raise AssertionError(f"{case}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error


def test_a_few_damaged_runs(subject: Subject, tmp_path: Path) -> None:
    for number in range(40):
        attack(subject, tmp_path, number, 0)


@pytest.mark.soak
@pytest.mark.reliability
def test_two_thousand_damaged_runs(
    subject: Subject, tmp_path: Path, soak_minutes: float, soak_seed: int, record: Callable[..., None]
) -> None:
    end, tried = time.monotonic() + 60 * soak_minutes * 0.28, 0
    while tried < MUTATIONS // 2 and (time.monotonic() < end or "MUTATIONS" in os.environ):
        attack(subject, tmp_path, tried, soak_seed)
        tried += 1
    assert tried > 20
    method = load_run(subject.run).config.model.name
    record("input", f"damaged run folders of {method}: the same verdicts, or one clear error", tried, seed=soak_seed)


def test_an_undamaged_run_is_judged_the_same_by_all(subject: Subject) -> None:
    """The mutations prove nothing where these were empty."""
    assert len(subject.expected["predict"]) == 3 and len(subject.expected["compare"]) == 2
    assert len(subject.expected["evaluate"]) == len(subject.expected["resume"]) == 8
    assert evaluate(subject.run).predictions[0].score == float(subject.expected["evaluate"][0][1])
