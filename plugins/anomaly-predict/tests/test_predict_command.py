"""``anomaly predict`` on a tiny run: rows in order, bad images, a list, watching, several processes, any console."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import RunResults, run_experiment
from odd_images import BAD, GOOD, spoil
from tiny.data import draw, write_image, write_tree
from tiny.runs import arguments, config, scores

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished")))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_its_rows_are_those_of_the_run(finished: RunResults, anomaly: Callable[..., Any]) -> None:
    paths = [row.path for row in finished.predictions]
    done = anomaly("predict", finished.folder, *paths, "--batch-size", 3)
    assert done.code == 0
    table = rows(done.out)
    assert [row["path"] for row in table] == paths
    assert [float(row["score"]) for row in table] == scores(finished).tolist()
    assert [row["is_anomalous"] for row in table] == [str(int(row.is_anomalous)) for row in finished.predictions]
    assert [row["p_value"] for row in table] == [f"{row.p_value:.4g}" for row in finished.predictions]
    lines = [json.loads(line) for line in anomaly("predict", finished.folder, *paths, "--jsonl").out.splitlines()]
    assert [(line["path"], line["score"], line["is_anomalous"], line["p_value"]) for line in lines] == [
        (row.path, row.score, row.is_anomalous, row.p_value) for row in finished.predictions
    ]
    assert "7 images in" in done.err and "images/s" in done.err


@pytest.mark.parametrize("name", [*BAD, "dangling.png", "forbidden.png"])
@pytest.mark.reliability("input")
def test_a_bad_image_is_never_scored(
    name: str, finished: RunResults, tmp_path: Path, anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for good in ("0.png", "z.png"):
        write_image(tmp_path / good, draw(60)[0])
    spoil(tmp_path, monkeypatch)
    for other in tmp_path.glob("*.*"):
        if other.name not in ("0.png", "z.png", name) and not other.is_dir():
            other.unlink()
    done = anomaly("predict", finished.folder, tmp_path)
    assert done.code == 1
    table = {Path(row["path"]).name: row for row in rows(done.out)}
    assert sorted(table) == sorted(["0.png", "z.png", name])
    assert {key: table[name][key] for key in ("score", "is_anomalous", "p_value")} == dict.fromkeys(
        ("score", "is_anomalous", "p_value"), ""
    )
    assert all(float(table[good]["score"]) >= 0 for good in ("0.png", "z.png"))
    assert name in done.err
    assert "1 could not be read" in done.err


@pytest.mark.reliability("input")
@pytest.mark.filterwarnings("ignore:.* of the training images", "ignore:.*several pages", "ignore:.*transparent pixels")
def test_every_unusual_image_goes_through(finished: RunResults, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    unlike = {"sixteen-bits.png"}  # the run was fitted on files of 8 bits
    paths = [tmp_path / name for name in GOOD if name not in unlike]
    for path in paths:
        path.write_bytes(GOOD[path.name][0])
    done = anomaly("predict", finished.folder, *paths, "--jsonl")
    assert done.code == 0, done.err
    assert [json.loads(line)["path"] for line in done.out.splitlines()] == [str(path) for path in paths]
    done = anomaly("predict", finished.folder, *paths)
    assert (done.code, len(rows(done.out))) == (0, len(paths))


def test_bad_images_and_order_and_a_list(
    finished: RunResults, tmp_path: Path, anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_image(tmp_path / "good.png", draw(1)[0])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    done = anomaly("predict", finished.folder, tmp_path, "--jsonl")
    assert done.code == 1
    first, second = map(json.loads, done.out.splitlines())
    assert (first["path"], first["score"], second["path"]) == (str(bad), None, str(good))
    assert "cannot read" in first["error"]
    assert "error" not in second
    assert "2 images in" in done.err and "images/s, 1 could not be read" in done.err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{good}\n{good}\n"))
    done = anomaly("predict", finished.folder, "-")
    assert done.code == 0
    assert [row.split(",")[0] for row in done.out.splitlines()] == ["path", str(good), str(good)]
    done = anomaly("predict", good, good)
    assert done.code == 1 and "neither a run's folder nor a file that can be opened" in done.err


def test_pictures_need_somebody_who_draws(finished: RunResults, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    image = write_image(tmp_path / "good.png", draw(1)[0])
    done = anomaly("predict", finished.folder, image, "--maps", tmp_path / "maps")
    assert done.code == 2 and "pip install anomaly-report" in done.err


def test_a_list_with_a_mark_comes_in_by_a_pipe(finished: RunResults, tmp_path: Path) -> None:
    """As PowerShell writes it: UTF-8 with a mark, and carriage returns."""
    image = write_image(tmp_path / "größe.png", draw(1)[0])
    done = subprocess.run(
        [sys.executable, "-m", "anomaly_core", "predict", str(finished.folder), "-", "--jsonl"],
        input=codecs.BOM_UTF8 + f"{image}\r\n".encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == str(image)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_name_that_the_console_cannot_show_is_escaped(
    encoding: str, finished: RunResults, tmp_path: Path, process: Callable[..., Any]
) -> None:
    names = ["0-検査.png", "1-größe.png"]
    for name in names:
        write_image(tmp_path / name, draw(1)[0])
    bad = tmp_path / "2-壊れた.png"
    bad.write_bytes(b"no image")
    done = process("predict", finished.folder, tmp_path, PYTHONIOENCODING=encoding)
    assert done.code == 1 and "Traceback" not in done.err and "unexpected" not in done.err, done.err
    shown = [name.encode(encoding, "backslashreplace").decode("utf-8", "surrogateescape") for name in (*names, bad.name)]
    assert [row.rpartition("/")[2].partition(",")[0] for row in done.out.splitlines()[1:]] == shown
    assert shown[2].split("-")[0] in done.err and "1 could not be read" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="there, names are text")
def test_a_name_that_is_no_text_is_printed_as_its_bytes(
    finished: RunResults, tmp_path: Path, process: Callable[..., Any]
) -> None:
    path = write_image(tmp_path / os.fsdecode(b"l\xe4tin.png"), draw(1)[0])
    done = process("predict", finished.folder, path, PYTHONIOENCODING="ascii")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].startswith(f"{path},")


def test_a_run_in_a_folder_of_any_name(tmp_path: Path, process: Callable[..., Any]) -> None:
    """Of a category, an output folder and a console that know nothing of each other."""
    root = tmp_path / "検査"
    write_tree(root / "größe")
    settings = config(tmp_path / "ausgabe-ä", data="tree", **{"data.root": str(root)})
    done = process(*arguments(settings), PYTHONIOENCODING="ascii")
    assert done.code == 0, done.err
    assert "gr\\xf6\\xdfe" in done.out
    (folder,) = (path.parent for path in (tmp_path / "ausgabe-ä").rglob("manifest.json"))
    assert folder.parts[-3] == "größe"


@pytest.mark.slow
def test_jobs_give_the_same_rows_in_the_same_order(
    finished: RunResults, tmp_path: Path, anomaly: Callable[..., Any], process: Callable[..., Any]
) -> None:
    for index in range(9):
        write_image(tmp_path / f"{index}.png", draw(index)[index % 2])
    alone = anomaly("predict", finished.folder, tmp_path)
    shared = process("predict", finished.folder, tmp_path, "--jobs", "2")
    assert shared.code == 0, shared.err
    assert shared.out == alone.out
    done = anomaly("predict", finished.folder, tmp_path, "--jobs", "2", "--backend", "loky")
    assert done.code == 2 and "pip install anomaly-benchmark" in done.err


@pytest.mark.slow
def test_watch_scores_what_comes_and_ends_with_ctrl_c(finished: RunResults, tmp_path: Path) -> None:
    write_image(tmp_path / "first.png", draw(1)[0])
    command = [sys.executable, "-m", "anomaly_core", "predict", str(finished.folder), str(tmp_path), "--watch"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # a shell's background jobs ignore SIGINT, and what they start does too
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([*command, "--interval", "0.1", "--jsonl"], preexec_fn=listening, **pipes) as running:
        assert running.stdout is not None and running.stderr is not None
        try:
            assert json.loads(running.stdout.readline())["path"] == str(tmp_path / "first.png")
            write_image(tmp_path / "second.png", draw(2)[0])
            assert json.loads(running.stdout.readline())["path"] == str(tmp_path / "second.png")
            running.send_signal(signal.SIGINT)
            assert running.wait(timeout=60) == 0
        finally:
            running.kill()  # else `with` would wait for it forever
        assert "2 images in" in running.stderr.read()


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\x03\x04"])
def test_a_file_that_no_engine_opens_is_refused(content: bytes, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    done = anomaly("predict", tmp_path / "model.onnx", tmp_path / "model.onnx")
    assert done.code == 1 and "anomaly-export" in done.err


def test_scores_do_not_depend_on_the_batch(finished: RunResults, anomaly: Callable[..., Any]) -> None:
    paths = [row.path for row in finished.predictions]
    tables = [rows(anomaly("predict", finished.folder, *paths, "--batch-size", size).out) for size in (1, 2, 7)]
    assert all(table == tables[0] for table in tables)
    assert np.isfinite([float(row["score"]) for row in tables[0]]).all()
