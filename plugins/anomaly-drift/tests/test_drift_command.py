"""``anomaly drift`` on a run of generated images: the light changes at image 300 of a stream with defects."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import anomaly_drift
from anomaly_core import RunFolder, run_experiment
from anomaly_drift.reference import DRIFT
from tiny.data import draw, write_image
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")
CHANGE, COUNT = 300, 340
PACKAGE = Path(anomaly_drift.__file__).parent


@pytest.fixture(scope="module")
def run(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"data.train_count": 120, "data.holdout": 0.5}
    return Path(run_experiment(config(tmp_path_factory.mktemp("finished"), **options)).folder)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """340 images in their order, one in 25 with a defect; from the 301st on 15 % brighter. Their times run backwards."""
    folder, random = tmp_path_factory.mktemp("line"), np.random.default_rng(1)
    for number in range(COUNT):
        clean, spoilt, _ = draw(10_000 + number)
        image = spoilt if random.random() < 0.04 else clean
        if number >= CHANGE:
            image = np.clip(image * 1.15, 0, 255).astype(np.uint8)
        path = write_image(folder / f"{number:04d}.png", image)
        os.utime(path, (1_790_000_000 - number, 1_790_000_000 - number))
    return folder


def test_the_light_is_told_within_thirty_images(run: Path, line: Path, anomaly: Callable[..., Any]) -> None:
    done = anomaly("drift", run, line, "--jsonl", "--recalibrate")
    assert done.code == 1, done.err
    alarm, proposal, summary = map(json.loads, done.out.splitlines())
    assert alarm["event"] == "alarm" and alarm["kind"] == "threshold" and "brighter" in alarm["text"]
    assert CHANGE < alarm["number"] <= CHANGE + 30 and CHANGE - 3 <= alarm["since_number"] <= CHANGE + 3
    assert alarm["since_id"] == str(line / f"{alarm['since_number'] - 1:04d}.png") and alarm["advice"]
    assert proposal["event"] == "proposal" and proposal["threshold"] is None and proposal["missing"] > 0
    assert summary == {**summary, "event": "summary", "images": COUNT, "alarms": 1, "unreadable": 0, "learnt": 0}


def test_nothing_is_told_of_images_that_stay_as_they_are(run: Path, line: Path, anomaly: Callable[..., Any]) -> None:
    done = anomaly("drift", run, f"{line}/0[012]*.png", "--recalibrate")
    assert done.code == 0 and "no alarm of drift, at no more than 1 false in 10,000 images" in done.out
    assert f"To accept it: `anomaly threshold {run} --value" in done.out


def test_by_time_the_order_is_that_of_the_files(run: Path, line: Path, anomaly: Callable[..., Any]) -> None:
    done = anomaly("drift", run, line, "--by-time")
    assert done.code == 1 and done.out.startswith("the threshold ") and " (2026-09-21 " in done.out
    assert f"first image: {line}" in done.out and "certain with image" in done.out


def test_without_facts_the_first_images_are_what_is_usual(run: Path, line: Path, anomaly: Callable[..., Any]) -> None:
    done = anomaly("drift", run, line, "--learn", 50)
    assert done.code == 1 and "compared with the first 50 of these images" in done.out
    assert "brighter" in done.out or "higher in contrast" in done.out  # the light raises both; the first to be sure is named
    few = anomaly("drift", run, *sorted(line.iterdir())[:20], "--learn", 50)
    assert few.code == 0 and "there were only 20: they told nothing yet" in few.out


def test_an_image_that_cannot_be_read_is_reported(run: Path, tmp_path: Path, anomaly: Callable[..., Any]) -> None:
    write_image(tmp_path / "a.png", draw(1)[0])
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = anomaly("drift", run, tmp_path)
    assert done.code == 1 and "warning: " in done.err and "b.png" in done.err and "1 images, " in done.out


def test_what_cannot_be_compared_is_refused(
    run: Path, line: Path, tmp_path: Path, anomaly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = anomaly("drift", tmp_path, line)
    assert done.code != 0 and "is not a run's folder" in done.err
    assert "no image or folder" in anomaly("drift", run, tmp_path / "nothing").err
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    done = anomaly("drift", run, "-")  # of a program that found no new image: no drift was not seen either
    assert (done.code, done.out) == (1, "") and "the list has no image" in done.err
    empty = run_experiment(config(tmp_path, **{"data.holdout": 0.0})).folder
    done = anomaly("drift", empty, line)
    assert done.code != 0 and "no scores of normal images" in done.err and "anomaly threshold" in done.err


def test_damaged_facts_are_refused_and_the_way_out_works(
    run: Path, line: Path, tmp_path: Path, anomaly: Callable[..., Any]
) -> None:
    kept = (run / DRIFT).read_bytes()
    try:
        for damage in (b"{", b"[]", b'{"format": 1, "facts": {"brightness": ["x"]}}', b'{"format": 9, "facts": {}}'):
            (run / DRIFT).write_bytes(damage)
            done = anomaly("drift", run, line)
            assert done.code != 0 and DRIFT in done.err and "Delete it" in done.err
        (run / DRIFT).unlink()
        assert "compared with the first 100" in anomaly("drift", run, line).out
    finally:
        (run / DRIFT).write_bytes(kept)


def test_a_run_keeps_the_facts_of_the_images_that_set_its_threshold(run: Path) -> None:
    folder = RunFolder.open(run)
    facts = folder.read_json(DRIFT)["facts"]
    assert {len(values) for values in facts.values()} == {len(folder.normals())} == {folder.calibration().count}
    assert not folder.differing()


def test_a_plot_is_drawn_and_another_kind_of_file_refused(
    run: Path, line: Path, tmp_path: Path, anomaly: Callable[..., Any]
) -> None:
    pytest.importorskip("matplotlib")
    assert anomaly("drift", run, line, "--plot", tmp_path / "drift.png").code == 1
    with Image.open(tmp_path / "drift.png") as picture:
        assert picture.width > 800
    few = anomaly("drift", run, f"{line}/000*.png", "--plot", tmp_path / "few.png", "--learn", 100)
    assert few.code == 0 and (tmp_path / "few.png").exists(), few.err
    done = anomaly("drift", run, line, "--plot", tmp_path / "drift.gif")
    assert done.code != 0 and ".png, .svg, .pdf" in done.err and not (tmp_path / "drift.gif").exists()


def test_nothing_of_it_needs_torch() -> None:
    modules = sorted(
        f"anomaly_drift.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    )
    code = f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'scipy', 'matplotlib'}} & set(sys.modules)))"
    places = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("[]", "") and len(modules) > 8
