"""``anomaly predict --watch`` warns of drift; a folder that is scored once is in no order, and nothing is said of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

from anomaly_core import Calibration, RunFolder
from anomaly_drift.facts import image_facts
from anomaly_drift.observing import Observer
from anomaly_drift.reference import DRIFT, Reference, facts_file

DETECTOR = SimpleNamespace(
    calibration=Calibration(None, 0.01, 99, "", scores=tuple(np.linspace(0, 1, 99).tolist())).at_rate(0.01)
)


def image_of(number: int, light: float = 1.0) -> Any:
    draw = np.random.default_rng(number)
    grey = 100 * light + 10 * draw.standard_normal((32, 32, 3)) + draw.standard_normal()
    return np.clip(grey, 0, 255).astype(np.uint8)


def watched(observer: Observer, folder: Path, light: float, count: int, *, watch: bool = True) -> None:
    """As ``anomaly predict FOLDER ...`` calls it."""
    command = click.Command("predict", params=[click.Argument(["source"]), click.Option(["--watch"], is_flag=True)])
    with command.make_context("predict", [str(folder), *["--watch"] * watch]):
        for number in range(count):
            verdict = SimpleNamespace(path=str(folder / f"{light}-{number}.png"), p_value=0.5, is_anomalous=False)
            observer.anomaly_predicted(verdict=verdict, image=image_of(number, light), detector=DETECTOR)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    facts = facts_file(image_facts(image_of(number)) for number in range(1000, 1099))
    (tmp_path / DRIFT).write_text(json.dumps(facts))
    return tmp_path


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_watched_folder_is_warned_of_once(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer()
    watched(observer, run, 1.0, 60)
    assert not warnings_of(caplog)
    watched(observer, run, 1.2, 40)
    (text,) = warnings_of(caplog)
    assert text.startswith("drift: the threshold ") and "brighter" in text


def test_a_folder_that_is_scored_once_is_not(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer()
    watched(observer, run, 1.0, 60, watch=False)
    watched(observer, run, 1.5, 60, watch=False)
    observer.anomaly_predicted(verdict=SimpleNamespace(), image=image_of(1), detector=DETECTOR)  # no command at all
    assert not warnings_of(caplog)


def test_without_facts_it_says_what_it_compares_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer()
    watched(observer, tmp_path, 1.0, 3)
    (text,) = warnings_of(caplog)
    assert "the first 100 images" in text


def test_an_image_that_could_not_be_read_counts_nothing(run: Path) -> None:
    observer = Observer()
    command = click.Command("predict", params=[click.Argument(["source"]), click.Option(["--watch"], is_flag=True)])
    with command.make_context("predict", [str(run), "--watch"]):
        observer.anomaly_predicted(verdict=SimpleNamespace(path="x", p_value=None), image=None, detector=DETECTOR)
    assert observer._monitor is None


def test_more_images_than_are_kept_are_thinned_evenly() -> None:
    facts = facts_file({**image_facts(image_of(1)), "brightness": float(number)} for number in range(1000))["facts"]
    assert len(facts["brightness"]) == 200 and np.median(facts["brightness"]) == pytest.approx(500, abs=5)
    assert Reference(DETECTOR.calibration, facts).usual["brightness"] == pytest.approx(500, abs=5)


def test_a_run_that_was_extended_has_the_facts_of_its_parent(run: Path, tmp_path: Path) -> None:
    child = RunFolder(tmp_path / "child")
    child.folder.mkdir()
    child.facts["parent"] = str(run)
    Observer().anomaly_run_end(run=child)
    assert (child.folder / DRIFT).read_bytes() == (run / DRIFT).read_bytes()
    lonely = RunFolder(tmp_path / "lonely")
    Observer().anomaly_run_end(run=lonely)
    assert not lonely.folder.exists()


def test_a_file_finds_what_lies_beside_it_or_in_the_run_that_it_lies_in(run: Path, tmp_path: Path) -> None:
    def near(path: Path) -> bool:
        return bool(Reference.near(path, DETECTOR.calibration).facts)

    away = tmp_path / "line" / "model.onnx"
    away.parent.mkdir()
    assert near(run) and not near(run / "model.onnx") and not near(away)  # of a folder that is no run, whose are they?
    (away.parent / "model.drift.json").write_bytes((run / DRIFT).read_bytes())
    (run / "manifest.json").write_text("{}")
    assert near(run / "model.onnx") and near(away) and not near(away.with_name("other.onnx").parent / "deeper" / "x.onnx")
