"""The event files of real runs, read back with TensorBoard's own reader."""

from __future__ import annotations

import csv
import io
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_core import RunConfig, RunError, RunFolder, RunResults, run_experiment
from anomaly_tensorboard.hooks import FOLDER, TensorBoardWriter

# protobuf's own deprecations, not ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / FOLDER), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return accumulator.Reload()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    folder = tmp_path_factory.mktemp("run")
    options = {
        **{
            "data.root": str(folder / "data"),
            "data.size": 64,
            "data.train_count": 6,
            "data.good_count": 2,
            "data.bad_count": 5,
        },
        **{"data.category": ["fabric"], "model.image_size": 64, "train.epochs": 3, "base.output": str(folder / "runs")},
        **{"base.pictures": 4, "base.device": "cpu", "data.holdout": 0.3},
    }
    return run_experiment(RunConfig.create(model="vanilla_ae", data="sample", preset="edge", overrides=options))


def test_every_epoch_of_the_history_is_there(finished: RunResults) -> None:
    folder = finished.runs[0].folder
    with (folder / "history.csv").open() as file:
        history = [float(row["train_loss"]) for row in csv.DictReader(file)]
    logged = events(folder).Scalars("train/loss")
    assert [event.step for event in logged] == [1, 2, 3]
    np.testing.assert_allclose([event.value for event in logged], history, rtol=1e-6)


def test_the_metrics_and_options_of_the_run(finished: RunResults) -> None:
    run = finished.runs[0]
    logged = events(run.folder)
    (event,) = logged.Scalars("result/image_auroc")
    assert event.value == pytest.approx(run.metrics["image_auroc"])
    text = logged.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| train.epochs | 3 |" in text
    values = {**run.metrics, **run.figures}
    assert run.figures
    defined = {f"result/{name}" for name, value in values.items() if value is not None}
    assert defined == {tag for tag in logged.Tags()["scalars"] if tag.startswith("result/")}


def test_the_pictures_are_those_of_the_folder(finished: RunResults) -> None:
    run = finished.runs[0]
    written = events(run.folder)
    logged = sorted((image.step, image) for tag in written.Tags()["images"] for image in written.Images(tag))
    pictured = [row.picture for row in run.predictions if row.picture]
    assert len(logged) == len(pictured) == 4
    for (_, image), name in zip(logged, pictured, strict=True):
        with Image.open(io.BytesIO(image.encoded_image_string)) as got, Image.open(run.folder / name) as expected:
            np.testing.assert_array_equal(np.asarray(got), np.asarray(expected.convert("RGB")))


def test_a_run_that_fails_keeps_what_was_logged_and_says_why(tmp_path: Path) -> None:
    observer, run = TensorBoardWriter(), RunFolder(tmp_path)
    observer.anomaly_log(run, {"epoch": 1.0, "train_loss": 0.5}, 1)
    observer.anomaly_run_error(run, RunError("the loss is nan"))
    logged = events(tmp_path)
    assert [event.value for event in logged.Scalars("train/loss")] == [0.5]
    assert b"the loss is nan" in logged.Tensors("error/text_summary")[0].tensor_proto.string_val[0]
    assert not observer._writers


def test_a_full_disk_is_reported_by_the_next_call_alone(tmp_path, monkeypatch, capfd) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    writer, run = TensorBoardWriter(), RunFolder(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        for step in range(1000):
            writer.anomaly_log(run, {"loss": 1.0}, step)
            time.sleep(0.01)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.reliability("security")
@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_nothing_outside_the_runs_folder_is_shown_or_written(finished: RunResults, tmp_path: Path) -> None:
    result, run = finished.runs[0], tmp_path / "run"
    shutil.copytree(result.folder, run, ignore=shutil.ignore_patterns(FOLDER))
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    observer = TensorBoardWriter()
    led = [replace(row, picture="../secret.png") for row in result.predictions]
    with pytest.raises(OSError, match="leads out of the folder"):
        observer.anomaly_run_end(RunFolder(run), replace(result, predictions=led))
    assert not observer._writers and not events(run).Tags()["images"]
    shutil.rmtree(run / FOLDER)
    (tmp_path / "outside").mkdir()
    (run / FOLDER).symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="leads out of the folder"):
        observer.anomaly_log(RunFolder(run), {"loss": 1.0}, 1)
    assert not list((tmp_path / "outside").iterdir())
