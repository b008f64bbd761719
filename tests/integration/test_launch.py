"""``--devices N``: several processes work on one run, and speak with one voice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from anomaly_core import LAUNCHED
from anomaly_core.cli.console import hand_over
from anomaly_trainers.launch import UNEXPECTED, _rank
from tiny.data import write_tree
from tiny.runs import arguments, config

pytestmark = pytest.mark.usefixtures("tiny")


def in_two(settings: Any, *more: str) -> list[str]:
    return [*arguments(settings), "--devices", "2", *more]


def only(output: Path) -> Path:
    """The folder of the only run."""
    (manifest,) = (output / "runs").rglob("manifest.json")
    return manifest.parent


@pytest.mark.slow
def test_two_processes_make_one_run(process: Callable[..., Any], anomaly: Callable[..., Any], tmp_path: Path) -> None:
    done = process(*in_two(config(tmp_path / "two")), TMPDIR=str(tmp_path))
    assert done.code == 0, done.err
    manifest = json.loads((only(tmp_path / "two") / "manifest.json").read_text())
    assert (manifest["status"], manifest["processes"]) == ("complete", 2)
    assert done.out.count("results in") == 1
    assert {line.partition(":")[0] for line in done.err.splitlines()} == {"warning"}
    assert done.err.count("held-out normal images cannot support") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["two"]  # no log is left behind
    assert anomaly(*arguments(config(tmp_path / "one"))).code == 0
    one, two = (only(tmp_path / name) / "predictions.csv" for name in ("one", "two"))
    assert two.read_text().replace("/two/", "/one/") == one.read_text()


def test_an_error_in_all_processes_is_one_paragraph(process: Callable[..., Any], tmp_path: Path) -> None:
    done = process(*in_two(config(tmp_path, model="mirror", **{"data.batch_size": 7})))
    assert done.code == 2
    assert done.err.count("Error:") == 1
    assert "Error: data.batch_size=7 does not divide over 2 processes" in done.err
    assert "Traceback" not in done.out + done.err and "ChildFailedError" not in done.err


# sitecustomize.py, which Python imports when it starts
FAILING = """
import os, signal
if "RANK" in os.environ:
    from tiny.trainers import OnePass

    def fit(self, modeler, train, validation, run=None):
        from anomaly_core import DataError
        import torch.distributed
        if os.environ["RANK"] == "1":
            {failure}
        torch.distributed.barrier()

    OnePass.fit = fit
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        ("raise DataError('the camera of line 2 is off.')", 1, "Error: the camera of line 2 is off."),
        pytest.param(
            *("raise ValueError('not so')", 1, "Error: unexpected ValueError: not so. Run again with --debug"),
            marks=pytest.mark.soak,
        ),
        (
            "os.write(2, b'no room left'); os.kill(os.getpid(), signal.SIGKILL)",
            1,
            "Error: process 1 of 2 died (signal SIGKILL)",
        ),
        pytest.param("os._exit(3)", 1, "Error: process 1 of 2 died (exit status 3)", marks=pytest.mark.soak),
    ],
)
def test_an_error_in_the_second_process_is_the_one_that_is_said(
    failure: str, code: int, words: str, process: Callable[..., Any], tmp_path: Path
) -> None:
    """The first one waits for the other, and would say that it is gone."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(FAILING.format(failure=failure))
    path = os.pathsep.join([str(hooks), os.environ["PYTHONPATH"]])
    done = process(*in_two(config(tmp_path)), PYTHONPATH=path)
    assert done.code == code, done.err
    assert done.err.startswith(words) and done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err
    assert done.err.endswith("It wrote last: no room left\n") == ("no room left" in failure)
    assert json.loads((only(tmp_path) / "manifest.json").read_text())["status"] != "complete"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)])
def test_all_processes_stop_in_order(number: signal.Signals, code: int, tmp_path: Path) -> None:
    settings = config(tmp_path, model="mirror", **{"train.epochs": 100_000})
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a background job ignores it
    command = [sys.executable, "-m", "anomaly_core", *in_two(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **listening) as running:
        end = time.monotonic() + 100
        while not list((tmp_path / "runs").rglob("manifest.json")):
            assert running.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        time.sleep(0.3)
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert running.returncode == code, err
    assert "Traceback" not in out + err
    assert err.count("interrupted. What was complete is kept") == (code == 130)
    assert json.loads((only(tmp_path) / "manifest.json").read_text())["status"] == "interrupted"


def failure(rank: int, message: str = "", order: int | None = None, exitcode: int = 1) -> Any:
    data = {} if order is None else {"order": order}
    return SimpleNamespace(local_rank=rank, message=message, error_file_data=data, exitcode=exitcode)


def test_the_cause_is_told_from_what_follows_from_it() -> None:
    known, later = failure(1, "Error: no image.", 7), failure(2, "Error: no image.", 8)
    killed, ended, stopped = failure(3, exitcode=-signal.SIGKILL), failure(4, exitcode=3), failure(0, exitcode=143)
    unexpected = failure(0, f"{UNEXPECTED}RuntimeError: connection closed by peer", 5, exitcode=-signal.SIGTERM)
    assert sorted([stopped, unexpected, ended, killed, later, known], key=_rank) == [
        *(known, later),
        *(killed, ended),
        *(unexpected, stopped),
    ]


def test_errors_are_handed_over_where_somebody_shows_them_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "error.json"
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    assert not hand_over("Error: no image.", 1)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    assert not hand_over("Error: no image.", 1)  # torchrun's own, which shows what its processes print
    monkeypatch.setenv(LAUNCHED, "1")
    assert hand_over("Error: kein Bild in größe.", 2)
    answer = json.loads(file.read_text("utf-8"))
    assert (answer["message"], answer["code"]) == ("Error: kein Bild in größe.", 2)


@pytest.mark.slow
def test_two_processes_drop_the_same_suspects(process: Callable[..., Any], anomaly: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "parts", train=24)
    for name, colour in (("7.png", "white"), ("11.png", "black")):
        Image.new("RGB", (32, 32), colour).save(folder / "train" / "good" / name)
    options = {"data.root": str(tmp_path / "parts"), "data.holdout": None, "data.drop_suspects": True}
    runs = []
    for devices, start in (("1", anomaly), ("2", process)):
        settings = config(tmp_path / devices, data="tree", **options)
        done = start(*arguments(settings), "--devices", devices)
        assert done.code == 0, done.err
        assert done.err.count("data.drop_suspects") == 1
        runs.append(only(tmp_path / devices))
    one, two = ((run / "normals.csv").read_text() for run in runs)
    assert one == two
