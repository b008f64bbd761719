"""``anomaly predict`` where its streams are closed, cut or of another encoding, and where names would command a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import RunFolder, RunResults, run_experiment
from tiny.data import draw, write_image
from tiny.runs import config

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(sys.platform == "win32", reason="it has neither such names nor such streams"),
]
COMMAND = [sys.executable, "-m", "anomaly_core", "predict"]


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished")))


NAMES = ("e\x1b[2J.png", "c1\x9b2J.png", "r\rn\nt\t.png", "=1+1.png", "it's \\x1b.png", "$'a'.png", 'q"uo,te.png', "検査.png")


@pytest.mark.reliability("security")
def test_no_name_commands_a_terminal_and_each_comes_back(
    finished: RunResults, tmp_path: Path, process: Callable[..., Any], anomaly: Callable[..., Any]
) -> None:
    names = [*NAMES, os.fsdecode(b"l\xe4tin.png")]
    good = [write_image(tmp_path / name, draw(1)[0]) for name in names]
    bad = [tmp_path / f"bad-{name}" for name in names]
    for path in bad:
        path.write_text("no image")
    done = process("predict", finished.folder, tmp_path)
    assert done.code == 1 and len(done.out.splitlines()) == len(done.out.split("\n")) - 1 == 2 * len(names) + 1
    for text in (done.out, done.err):
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text if letter != "\n")
    assert "bad-e\\x1b[2J.png" in done.err and "$'" + str(tmp_path) + "/e\\x1b[2J.png'" in done.out
    (tmp_path / "rows.csv").write_text(done.out, encoding="utf-8", errors="surrogateescape")
    rows = RunFolder(tmp_path).read_rows("rows.csv")
    assert sorted(row["path"] for row in rows) == sorted(map(str, [*good, *bad]))
    lines = anomaly("predict", finished.folder, tmp_path, "--jsonl").out.splitlines()
    assert sorted(json.loads(line)["path"] for line in lines) == sorted(map(str, [*good, *bad]))
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize(("encoding", "kind"), [("ascii", []), ("cp1252", ["--jsonl"])])
def test_no_code_page_breaks_a_list_off(
    encoding: str, kind: list[str], finished: RunResults, tmp_path: Path, process: Callable[..., Any]
) -> None:
    for name in (*NAMES, os.fsdecode(b"l\xe4tin.png")):
        write_image(tmp_path / name, draw(1)[0])
    (tmp_path / "bad-検査\x1b.png").touch()
    done = process("predict", finished.folder, tmp_path, *kind, PYTHONIOENCODING=encoding)
    assert (done.code, len(done.out.split("\n")) - 1) == (1, len(NAMES) + 2 + (not kind))
    assert "Traceback" not in done.err and "\x1b" not in done.out + done.err


def test_a_listed_name_of_a_megabyte_is_one_row_and_a_short_warning(finished: RunResults, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png", draw(1)[0])
    content = b"x" * 2**20 + b"\nnul\0nul.png\n" + os.fsencode(image) + b"\n"
    done = subprocess.run([*COMMAND, str(finished.folder), "-"], input=content, capture_output=True, check=False, timeout=120)
    csv.field_size_limit(2**21)
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert done.returncode == 1 and [bool(row["score"]) for row in rows] == [False, False, True]
    assert len(rows[0]["path"]) == 2**20 and rows[1]["path"] == "$'nul\\x00nul.png'"
    assert len(done.stderr) < 5000 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("closed", "status", "words"),
    [(">&-", 1, "standard output is closed"), ("2>&- <&-", 0, "")],
)
def test_a_closed_stream_is_said(closed: str, status: int, words: str, finished: RunResults, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png", draw(1)[0])
    line = ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, str(finished.folder), str(image)]
    done = subprocess.run(line, capture_output=True, check=False, text=True, timeout=120)
    assert (done.returncode, words in done.stderr) == (status, True)
    assert "unexpected" not in done.stderr and "Traceback" not in done.stderr and "ignored" not in done.stderr
    assert str(image) in done.stdout or status


def test_a_list_from_a_closed_stream_is_said(finished: RunResults) -> None:
    line = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, str(finished.folder), "-"]
    done = subprocess.run(line, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 1 and "standard input is closed" in done.stderr and "unexpected" not in done.stderr


def test_a_pipe_that_closes_ends_with_141(finished: RunResults, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    line = [*COMMAND, str(finished.folder), str(write_image(tmp_path / "a.png", draw(1)[0]))]
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, check=False, text=True, timeout=120)
    os.close(write)
    assert done.returncode == 141 and "Error" not in done.stderr and "ignored" not in done.stderr


@pytest.mark.parametrize("device", ["gpu", "xpu", "cuda:x", ""])
def test_an_unknown_device_is_one_error_that_names_the_known(
    device: str, finished: RunResults, anomaly: Callable[..., Any]
) -> None:
    image = finished.predictions[0].path
    for command in (["predict", finished.folder, image], ["evaluate", finished.folder]):
        done = anomaly(*command, "--device", device)
        assert done.code == 2 and f"no device is called {device!r}. Give auto, cpu, mps, cuda or" in done.err


@pytest.mark.reliability("input")
def test_special_files_are_error_rows_at_once(
    finished: RunResults, tmp_path: Path, process: Callable[..., Any], anomaly: Callable[..., Any]
) -> None:
    write_image(tmp_path / "a.png", draw(1)[0])
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").symlink_to("d.png")
    every = [tmp_path / f"{name}.png" for name in "abcd"]
    for images in ([tmp_path], every, [tmp_path / "*.png"]):
        done = anomaly("predict", finished.folder, *images)
        rows = list(csv.DictReader(io.StringIO(done.out)))
        assert (done.code, [row["path"] for row in rows]) == (1, [str(path) for path in every])
        assert [bool(row["score"]) for row in rows] == [True, False, False, False]
        assert "a pipe, not a regular file" in done.err and "3 could not be read" in done.err


def test_an_unreadable_folder_is_a_warning_and_status_1(
    finished: RunResults, tmp_path: Path, anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "b/2.png"):
        write_image(tmp_path / name, draw(1)[0])
    scan = os.scandir

    def scandir(path: object) -> object:
        if str(path) == str(tmp_path / "a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = anomaly("predict", finished.folder, tmp_path)
    assert (done.code, len(done.out.splitlines())) == (1, 2)
    assert f"warning: cannot read the folder '{tmp_path / 'a'}': Permission denied" in done.err and "images/s\n" in done.err
