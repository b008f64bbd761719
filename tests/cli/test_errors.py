"""What a user meets when something is wrong: one paragraph, the right exit status, and a traceback when asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import AnomalyError, main
from tiny.data import draw, write_image
from tiny.runs import arguments, config

pytestmark = pytest.mark.usefixtures("tiny")
RUN = ["run", "--model", "palette", "--data", "weave"]


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["run", "--model", "fastflow", "--data", "weave"], 2, "pip install anomaly-flow"),
        ([*RUN, "--set", "model.share=ten"], 2, "model.share='ten'"),
        ([*RUN, "--no-such-flag"], 2, "--no-such-flag"),
        ([*RUN, "--seed", "x"], 2, "base.seed='x'"),
        ([*RUN, "--set", "share=1"], 2, "expected section.key=value"),
        ([*RUN, "--config", "/nowhere.yaml"], 2, "cannot read the config file '/nowhere.yaml'"),
        ([*RUN, "--metric", "loudness"], 2, "no metric is called 'loudness'"),
        ([*RUN, "--resume", "/nowhere"], 2, "--resume RUN goes on with the run's own options"),
        (["run", "--resume", "/nowhere"], 2, "cannot read the config file '/nowhere/config.yaml'"),
        (["run", "--model", "palette", "--data", "tree", "--set", "data.root=/nowhere"], 1, "has no folder '/nowhere'"),
        (["run"], 2, "no model was chosen"),
        (["frobnicate"], 2, "frobnicate"),
        (["run", "--model", "paltete", "--data", "weave"], 2, "Did you mean 'palette'?"),
    ],
)
def test_errors_are_one_paragraph(
    anomaly: Callable[..., Any],
    arguments: list[str],
    expected: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = anomaly(*arguments)
    assert done.code == expected
    assert words in done.err
    assert "Traceback" not in done.err
    assert [path for path in tmp_path.rglob("*.json") if "complete" in path.read_text()] == []


def test_bad_data_is_one_paragraph(anomaly: Callable[..., Any], tmp_path: Path) -> None:
    done = anomaly(*arguments(config(tmp_path)), "--category", "velvet")
    assert (done.code, "velvet" in done.err, "linen" in done.err) == (2, True, True)
    write_image(tmp_path / "weave" / "linen" / "train" / "good" / "fine.png", draw(1)[0])
    (tmp_path / "weave" / "linen" / "train" / "good" / "broken.png").write_text("not a picture")
    done = anomaly(*arguments(config(tmp_path)))
    assert (done.code, "broken.png" in done.err, "Traceback" in done.err) == (1, True, False)
    statuses = [json.loads(file.read_text())["status"] for file in (tmp_path / "runs").rglob("manifest.json")]
    assert statuses == ["failed"]


def test_debug_shows_the_traceback(anomaly: Callable[..., Any]) -> None:
    for line in (
        ["run", "--debug", "--model", "fastflow", "--data", "weave"],
        ["--debug", "run", "--model", "nothing", "--data", "weave"],
    ):
        done = anomaly(*line)
        assert (done.code, "Traceback" in done.err, "Error: no model is called" in done.err) == (2, True, True)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (AnomalyError("no light. Switch it on."), 1, "Error: no light. Switch it on."),
        (KeyboardInterrupt(), 130, "Error: interrupted. What was complete is kept"),
        (OSError(13, "Permission denied", "/lights"), 1, "Error: [Errno 13] Permission denied: '/lights'. Check the path"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "Error: unexpected ZeroDivisionError: division by zero. Run again with --debug",
        ),
    ],
)
def test_every_kind_of_error_has_its_words_and_its_status(
    error: BaseException, code: int, words: str, anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr("anomaly_core.config.resolve.RunConfig.create", fail)
    done = anomaly(*RUN)
    assert done.code == code and done.err.lstrip().startswith(words) and "Traceback" not in done.err


def test_a_pipe_that_closes_ends_quietly(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def closed(**options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("anomaly_core.config.resolve.RunConfig.create", closed)
    with pytest.raises(SystemExit) as stop:
        main(RUN)
    assert stop.value.code == 141 and capfd.readouterr().err == ""


def test_what_is_left_out_but_not_there_is_said(anomaly: Callable[..., Any]) -> None:
    done = anomaly("--no-plugin", "anomaly-ghost", "run", "--help")
    assert done.code == 0 and "warning: --no-plugin anomaly-ghost: nothing that is installed has that name" in done.err
    done = anomaly(*RUN, "--no-plugin", "anomaly-tiny")
    assert done.code == 2 and "blocked by --no-plugin" in done.err


@pytest.mark.reliability("fault")
@pytest.mark.skipif(os.name == "nt", reason="the current folder cannot be removed there")
@pytest.mark.parametrize("command", ["--help", "run"])
def test_a_current_folder_that_is_gone_is_one_error(
    anomaly: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        done = anomaly(command)
    finally:
        os.chdir(tmp_path)
    assert done.code == 1 and done.err.startswith("Error: the current folder is gone: ") and done.err.count("\n") == 1
