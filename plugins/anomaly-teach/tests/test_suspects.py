"""``anomaly suspects``: what it says of a run, and the lists that it writes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from anomaly_core import Calibration, NormalImage, RunConfig, RunFolder, main, stands_out
from anomaly_teach.commands.suspects import suspects
from anomaly_teach.suspects import add_to_list, ranked

NAMES = ("=a b", "Prüfling", "wild\x1b[2J")


def a_run(folder: Path, odd: int = 3, count: int = 40, *, normals: bool = True, scored_by: Any = "folds", **more: Any) -> Path:
    """A complete run whose first ``odd`` normal images stand out."""
    scores = np.random.default_rng(0).uniform(10, 12, count)
    scores[:odd] = 50 - np.arange(odd)
    run = RunFolder(folder)
    overrides = {"data.normal": str(folder), **more}
    run.write("config.yaml", RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=overrides).to_yaml())
    calibration = Calibration(60.0, 0.01, count, "a test", scores=tuple(sorted(scores.tolist())), scored_by=scored_by)
    run.write_json("calibration.json", calibration.to_dict())
    if normals:
        flags = stands_out(scores.tolist())
        paths = [f"/data/good parts/{NAMES[n % 3]}{n}.png" for n in range(count)]
        images = [NormalImage(path, "caps", score) for path, score in zip(paths, scores.tolist(), strict=True)]
        images = [dataclasses.replace(image, suspect=flag) for image, flag in zip(images, flags, strict=True)]
        if odd:
            images[0].picture = "suspects/0000-a_b.png"
        run.write_rows("normals.csv", [image.to_row() for image in images])
    run.write_json("manifest.json", {"format": 1, "status": "complete", "seed": 0, "category": "caps", **run.facts})
    return folder


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(suspects, list(map(str, arguments)), catch_exceptions=False)


def test_those_that_stand_out_are_listed_the_highest_first(tmp_path: Path) -> None:
    output = call(a_run(tmp_path)).output
    assert output.startswith("3 of 40 normal images stand out\n")
    places = [output.index(name) for name in ("=a b0.png", "Prüfling1.png", r"wild\x1b[2J2.png")]
    assert places == sorted(places) and "\x1b" not in output
    assert "suspects/0000-a_b.png" in output and "3.5 robust standard deviations above the median" in output
    assert "=a b3.png" not in output and "held out" not in output
    assert f"anomaly run --config {tmp_path / 'config.yaml'} --set data.drop_suspects=true" in output


def test_the_table_can_be_longer(tmp_path: Path) -> None:
    a_run(tmp_path)
    assert call(tmp_path, "--top", 4).output.count("does not stand out") == 1
    assert call(tmp_path, "--all").output.count("does not stand out") == 37


def test_none(tmp_path: Path) -> None:
    output = call(a_run(tmp_path / "run", odd=0), "--write-exclude", tmp_path / "list").output
    assert output.startswith("none of 40 normal images stands out\n") and "Nothing is written" in output
    assert not (tmp_path / "list").exists()


def test_held_out_images_are_said_to_be_a_part(tmp_path: Path) -> None:
    output = call(a_run(tmp_path, scored_by="holdout")).output
    assert "Only the images that set the threshold have a score" in output and "base.calibration=cross" in output


def test_deviations_and_p_values(tmp_path: Path) -> None:
    rows = ranked(RunFolder.open(a_run(tmp_path)))
    scores = np.array([row.image.score for row in rows])
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose([row.p_value for row in rows], np.arange(1, 41) / 40)
    assert [row.deviations > 3.5 for row in rows] == [row.is_odd for row in rows]


def test_dropped_images_are_compared_with_the_others(tmp_path: Path) -> None:
    run = RunFolder(a_run(tmp_path, odd=0))
    kept = run.normals()
    run.write_rows("normals.csv", [row.to_row() for row in [*kept, NormalImage("x.png", "caps", 99.0, dropped=True)]])
    first, second = ranked(RunFolder.open(tmp_path))[:2]
    assert first.image.path == "x.png" and first.is_odd and not second.is_odd
    assert first.deviations > 50 > 3.5 > second.deviations > 0
    assert (first.p_value, second.p_value) == (1 / 41, 1 / 40)
    output = call(tmp_path).output
    assert "1 of 41 normal images stands out (1 of them dropped" in output and "drop_suspects=true" not in output


def test_a_run_without_their_names_says_so_in_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_run(tmp_path, normals=False)
    with pytest.raises(SystemExit):
        main(["suspects", str(folder)])
    error = capsys.readouterr().err
    assert "has no normals.csv" in error and "Fit again with `anomaly run --config" in error and "Traceback" not in error


def test_a_list_can_be_written_edited_and_continued(tmp_path: Path) -> None:
    folder, listed = a_run(tmp_path / "run"), tmp_path / "my list.txt"
    output = call(folder, "--write-exclude", listed).output
    assert "3 added" in output and f"--set 'data.exclude={listed}'" in output
    lines = listed.read_text().splitlines()
    assert lines[0].startswith("# normal images that stand out in")
    assert lines[1:] == ["/data/good parts/=a b0.png", "/data/good parts/Prüfling1.png", "/data/good parts/wild\x1b[2J2.png"]
    listed.write_bytes("\r\n".join(["# mine", "", *lines[1:3]]).encode("utf-16"))  # edited on Windows
    assert "1 added" in call(folder, "--write-exclude", listed).output
    assert listed.read_text().splitlines() == ["# mine", "", *lines[1:3], lines[0], lines[3]]
    before = listed.read_bytes()
    assert "0 added" in call(folder, "--write-exclude", listed).output and listed.read_bytes() == before


def test_names_that_a_list_cannot_hold_or_would_misread(tmp_path: Path) -> None:
    run = RunFolder.open(a_run(tmp_path / "run"))
    first, second, third = ranked(run)[:3]
    second = dataclasses.replace(second, image=dataclasses.replace(second.image, path="#1.png"))
    third = dataclasses.replace(third, image=dataclasses.replace(third.image, path=os.fsdecode(b"\xff.png")))
    add_to_list(tmp_path / "list", [second, third], run.folder)
    assert (tmp_path / "list").read_bytes().split(b"\n")[1:] == [b"./#1.png", b"\xff.png", b""]
    broken = dataclasses.replace(first, image=dataclasses.replace(first.image, path="a\nb.png"))
    with pytest.raises(Exception, match="has a line break"):
        add_to_list(tmp_path / "list", [broken], run.folder)


def test_another_list_would_be_replaced_and_that_is_said(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    folder = a_run(tmp_path / "run", **{"data.exclude": str(old)})
    assert "would replace that list" in call(folder, "--write-exclude", new).output
    assert "would replace" not in call(folder, "--write-exclude", old).output


@pytest.mark.parametrize("options", [("--all", "--top", "3"), ("--all", "--write-exclude", "list")])
def test_options_that_exclude_each_other(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert call(a_run(tmp_path), *options).exit_code == 2
