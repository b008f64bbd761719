"""Reports of runs that somebody else wrote: nothing outside their folders is read, shown, written or waited for."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mutations import bytes_changed, json_changed, nested, special, table_changed, yaml_changed
from PIL import Image
from sealing import seal

from anomaly_core import AnomalyError, RunError, TestedImage
from anomaly_report.commands import report
from anomaly_report.figures.examples import draw_examples
from anomaly_report.figures.plans import PLANS, drawn
from anomaly_report.finished import FinishedRun
from anomaly_report.leaderboard import write_leaderboard
from anomaly_report.report import write_report
from anomaly_report.runs import read_run, read_runs

pytestmark = pytest.mark.reliability("security")
FILES = ("manifest.json", "metrics.json", "calibration.json", "predictions.csv", "curves.json", "history.csv", "config.yaml")
links = pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need rights there")


def in_time(work: Callable[[], Any], seconds: float = 30) -> Any:
    """What the work returns or raises; an AssertionError where it waits for something."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append((work(), None))
        except Exception as error:
            ended.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert ended, f"nothing for {seconds} s"
    ((answer, error),) = ended
    if error is not None:
        raise error
    return answer


def with_picture(make_run: Callable[..., Path], folder: Path, picture: str) -> Path:
    """A run whose first image has the picture of that name."""
    make_run(folder, rows=[TestedImage(f"/{n}.png", "m6", "", n, float(n), False) for n in (0, 1)], curves="{}")
    table = (folder / "predictions.csv").read_text()
    first, _, rest = table.partition(",,\n")  # p_value and picture are empty
    (folder / "predictions.csv").write_text(f'{first},,"{picture}"\n{rest}')
    return seal(folder)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture elsewhere on the machine, in one colour."""
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "secret.png"
    Image.new("RGB", (140, 64), (255, 0, 255)).save(path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere/secret.png", "maps/../../elsewhere/secret.png", "{secret}", "//host/x.png", "\\\\host\\x.png",
        "C:\\x.png", "C:x.png", "..\\elsewhere\\secret.png", "file://{secret}", "http://host/x.png", "/etc/passwd", "maps",
        "a\0b.png", "data:image/png;base64,AAAA", "config.yaml", "", "x" * 5000,
    ],
    ids=lambda name: name[:24].replace("\0", "NUL").replace("/", "-"),
)  # fmt: skip
def test_a_picture_outside_the_runs_folder_is_neither_read_nor_linked(make_run, tmp_path, secret, name):
    name = name.format(secret=secret)
    run = with_picture(make_run, tmp_path / "run", name)
    read = FinishedRun.read(run)
    assert [image.picture for image in read.images] == ["", ""]
    assert len(read.notes) == bool(name)
    assert draw_examples(read) is None
    page = write_report(run).read_text()
    assert "secret.png" not in page.replace(read.notes[0] if name else "", "").partition("<h2")[2].partition("Pictures are")[0]
    assert not name or "Pictures are left out" in page
    alone = write_report(run, tmp_path / "page.html").read_text()
    assert 'src="data:image' not in alone and '"pictures":["",""]' in alone


@links
@pytest.mark.parametrize("linked", ["maps/0.png", "maps"])
def test_a_link_to_a_picture_elsewhere_is_not_followed(make_run, tmp_path, secret, linked):
    run = with_picture(make_run, tmp_path / "run", "maps/0.png" if linked != "maps" else "maps/secret.png")
    (run / linked).parent.mkdir(exist_ok=True)
    (run / linked).symlink_to(secret if linked != "maps" else secret.parent)
    read = FinishedRun.read(run)
    assert read.images[0].picture == "" and "leads out of the folder" in read.notes[0]
    assert "data:image/png" not in write_report(run, tmp_path / "page.html").read_text()


@links
@pytest.mark.parametrize("name", FILES)
def test_a_link_to_a_table_elsewhere_is_not_followed(make_run, tmp_path, name):
    run = make_run(tmp_path / "run", curves="{}")
    shutil.move(run / name, tmp_path / name)
    (run / name).symlink_to(tmp_path / name)
    row = read_run(run)
    assert row.status == ("damaged" if name in ("manifest.json", "metrics.json") else "complete")
    if name in ("curves.json", "history.csv", "config.yaml"):
        assert f"{name} is left out: " in write_report(run).read_text()
        assert (row.model == "patchcore") == (name != "config.yaml")
    else:
        with pytest.raises(RunError, match=f"{name}.*leads out of the folder"):
            write_report(run)


@links
def test_writing_follows_no_link_out_of_the_folder(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("anomaly_report.figures.plans.PLANS", PLANS[:1])
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in ("mine.html", "scores.png", "examples.png"):
        (outside / place).write_text("mine")
    run = make_run(tmp_path / "run", curves="{}")
    (run / "report.html").symlink_to(outside / "mine.html")
    write_report(run, figures="png")
    assert not (run / "report.html").is_symlink() and (run / "figures" / "scores.png").is_file()
    shutil.rmtree(run / "figures")
    (run / "figures").symlink_to(outside)
    for rows in (None, []):  # drawn, or removed because there is nothing to draw
        (run / "manifest.json").unlink()
        made = make_run(run, rows=rows)
        with pytest.raises(RunError, match="leads out of the folder"):
            write_report(made, figures="png")
    (tmp_path / "leaderboard.html").symlink_to(outside / "mine.html")
    write_leaderboard(tmp_path)
    assert {path.read_text() for path in outside.rglob("*.*")} == {"mine"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("name", [*FILES, "log.txt", "maps/0000.png", "report.html"])
def test_a_pipe_or_an_endless_device_is_not_waited_for(make_run, tmp_path, name):
    run = make_run(tmp_path / "run", curves="{}")
    for kind in ("pipe", "device"):
        (run / name).unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(run / name)
        else:
            (run / name).symlink_to("/dev/zero")
        row = in_time(lambda: read_run(run))
        assert row.status == ("damaged" if name in ("manifest.json", "metrics.json") else "complete")
        done = in_time(lambda: CliRunner().invoke(report, [str(tmp_path), "--each"]))
        assert done.exit_code == 0, done.output
        if name in FILES[:4]:
            with pytest.raises(RunError, match=name):
                in_time(lambda: write_report(run))
        else:
            in_time(lambda: write_report(run))


@links
def test_loops_of_links_and_a_thousand_folders_in_each_other_end(make_run, tmp_path, monkeypatch):
    make_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "self").symlink_to("self")
    deep = 1500
    monkeypatch.chdir(tmp_path / "runs")
    for _ in range(deep):  # a path of them all would be too long for the system
        Path("d").mkdir()
        os.chdir("d")
    try:
        assert [row.folder.name for row in in_time(lambda: read_runs(tmp_path / "runs"))] == ["a"]
        in_time(lambda: write_leaderboard(tmp_path / "runs"))
    finally:  # shutil.rmtree fails at the thousandth, and so would pytest
        for _ in range(deep):
            os.chdir("..")
            Path("d").rmdir()


def test_a_config_of_a_few_lines_takes_no_memory(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefghijk", "bcdefghijkl", strict=True)]
    (run / "config.yaml").write_text("\n".join([*lines, "data: {name: *l}", "model: {name: *l}", "base: {preset: *l}"]))
    row = in_time(lambda: read_run(seal(run)))
    assert (row.status, row.preset, row.model) == ("complete", "", tmp_path.name)


CHANGES: dict[str, list[Callable[[Path, random.Random], str]]] = {
    ".json": [json_changed] * 8 + [nested, bytes_changed],
    ".csv": [table_changed] * 8 + [bytes_changed],
    ".yaml": [yaml_changed] * 4 + [bytes_changed],
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 8))])
def test_a_damaged_run_is_reported_or_refused_in_one_sentence(make_run, tmp_path, record, seed):
    """Its manifest holds the damaged files' SHA-256, as that of whoever damages them on purpose."""
    kinds = {kind: {"x": [0.0, 0.5, 1.0], "y": [0.0, 0.5, 1.0]} for kind in ("pixel_roc", "pixel_pr", "pro")}
    history = [{"epoch": float(n), "train_loss": 1 / n} for n in (1, 2, 3)]
    facts = {"peak_memory_mb": 12.5, "evaluates": "/x", "data": {"fit": 9, "held_out": 3, "digest": "0"}}
    whole = make_run(tmp_path / "whole", curves=json.dumps({"m6": kinds}), history=history, manifest=facts)
    chance = random.Random(seed)
    for number in range(60):
        run = tmp_path / "runs" / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        path = run / FILES[number % len(FILES)]
        what = f"{path.name}: {chance.choice([*CHANGES[path.suffix], special])(path, chance)}"
        if path.is_file() and not path.is_symlink() and path.name != "manifest.json":
            seal(run)
        try:
            in_time(lambda run=run: write_report(run))
        except AnomalyError as error:
            text = str(error)
            named = {path.name, "metrics.json" if path.name == "predictions.csv" else path.name}  # which counts them
            assert any(name in text for name in named) and "\n" not in text and len(text) < 2000, (what, text)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        in_time(lambda: write_leaderboard(tmp_path / "runs"))
    record("input", "runs with damaged tables, in reports and leaderboards", 60, seed=seed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("history.csv", "epoch,train_loss\n1,many\n"),
        ("history.csv", None),
        ("curves.json", '{"m6": {"pro": {"x": [0, 1], "y": [0]}}}'),
        ("curves.json", "[]"),
        ("curves.json", None),
        ("config.yaml", None),
    ],
)
def test_the_page_says_what_it_is_worth_having_without(make_run, tmp_path, name, content):
    run = make_run(tmp_path / "run", curves="{}")
    assert "is left out" not in write_report(run).read_text()
    (run / name).unlink() if content is None else (run / name).write_text(content)
    assert f"{name} is left out: " in write_report(seal(run)).read_text()


def test_what_no_axis_holds_is_said_in_the_place_of_the_figure(make_run, tmp_path):
    rows = [TestedImage(f"/{n}.png", "m6", "", n, score, False) for n, score in enumerate((-1e308, 1e308))]
    run = make_run(tmp_path / "run", rows=rows, curves="{}", threshold=5.0)
    page = write_report(run).read_text()
    figures = {figure.plan.name: figure for figure in drawn(FinishedRun.read(run))}
    assert figures["scores"].missing.startswith("It cannot be drawn: ") and figures["roc"].drawn
    assert "Scores: It cannot be drawn: " in page


def test_a_page_elsewhere_holds_its_pictures_and_leaves_the_run_as_it_is(make_run, tmp_path):
    run = make_run(tmp_path / "run", curves="{}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = CliRunner().invoke(report, [str(run), "--output", str(tmp_path / "pages" / "page.html")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "pages" / "page.html").read_text()
    shutil.rmtree(run / "maps")
    assert page.count('src="data:image/png;base64,') >= 3 and 'src="maps' not in page
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    named = [picture for picture in data["pictures"] if picture]
    assert len(named) == 20 and all(picture.startswith("data:image/png;base64,") for picture in named)
    assert {path: content for path, content in before.items() if path.parent.name != "maps"} == {
        path: path.read_bytes() for path in run.rglob("*") if path.is_file()
    }
    board = CliRunner().invoke(report, [str(tmp_path), "--output", str(tmp_path / "pages" / "board.html")])
    assert board.exit_code == 0 and not (tmp_path / "leaderboard.html").exists()
    assert '"place":"../run"' in (tmp_path / "pages" / "board.html").read_text()
    refused = CliRunner().invoke(report, [str(run), "--output", str(tmp_path / "pages" / "page.html" / "x.html")])
    assert isinstance(refused.exception, RunError) and "--output" in str(refused.exception)


def test_of_a_picture_nothing_but_its_pixels_is_passed_on(make_run, tmp_path):
    run = make_run(tmp_path / "run", curves="{}")
    for path in (run / "maps").glob("*.png"):
        path.write_bytes(path.read_bytes() + b"SECRET-BEHIND-THE-PIXELS")
    page = write_report(run, tmp_path / "page.html").read_text()
    (first,) = [name for name in page.split('"') if name.startswith("data:image/png")][:1]
    assert first and "U0VDUkVU" not in page
    (run / "maps" / "0000.png").write_bytes((run / "maps" / "0000.png").read_bytes()[:60])
    assert "Pictures are left out" in write_report(run, tmp_path / "page.html").read_text()
