"""What an observer is told of a run, an evaluation and a detector in use, and when; one that fails costs nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import (
    HOOKS,
    AnomalyError,
    Calibration,
    ConfigError,
    RunFolder,
    RunResults,
    TestedImage,
    run_experiment,
)
from diary import pages, told
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_run_is_told_from_its_start_to_its_end(diary: Any, tmp_path: Path) -> None:
    settings = config(tmp_path)
    written: list[list[str]] = []
    diary.WORK["anomaly_tested"] = lambda run, **_: written.append(sorted(path.name for path in run.folder.iterdir()))
    results = run_experiment(settings)
    assert told(diary) == ["configure", "run_start", "log", "normals_scored", "calibrated", "scored", "tested", "run_end"]
    (run,) = {arguments["run"].folder for _, arguments in diary.PAGES if "run" in arguments}
    assert run == results.folder and isinstance(pages(diary, "run_start")[0]["run"], RunFolder)
    assert pages(diary, "configure") == [{"config": settings}]
    (line,) = pages(diary, "log")
    assert (line["metrics"], line["step"]) == ({"remembered_images": 6.0}, 1)
    assert pages(diary, "run_end")[0]["results"] is results.runs[0]
    assert "predictions.csv" not in written[0] and "metrics.json" not in written[0]  # nothing is written yet


def test_every_batch_of_the_test_set_is_shown_with_its_rows(diary: Any, tmp_path: Path) -> None:
    results = run_experiment(config(tmp_path))
    shown = pages(diary, "scored")
    assert [len(page["batch"]) for page in shown] == [4, 3]
    for page in shown:
        assert page["batch"].images.device.type == page["prediction"].scores.device.type == "cpu"
        assert all(isinstance(row, TestedImage) for row in page["rows"])
        assert [row.path for row in page["rows"]] == [str(sample.path) for sample in page["batch"].samples]
        assert [row.score for row in page["rows"]] == page["prediction"].scores.tolist()
        assert page["calibration"] == results.runs[0].calibration
    (tested,) = pages(diary, "tested")
    assert tested["rows"] == results.predictions == [row for page in shown for row in page["rows"]]
    assert isinstance(tested["calibration"], Calibration)


def test_normal_images_are_shown_with_what_they_score(diary: Any, tmp_path: Path) -> None:
    results = run_experiment(config(tmp_path, **{"data.holdout": None}))
    shown = pages(diary, "normals_scored")
    (calibrated,) = pages(diary, "calibrated")
    normals = calibrated["normals"]
    assert [row.path for row in normals] == [str(sample.path) for page in shown for sample in page["batch"].samples]
    assert [row.score for row in normals] == [score for page in shown for score in page["prediction"].scores.tolist()]
    assert calibrated["calibration"] == results.runs[0].calibration
    assert all(page["input_spec"].output_size == (32, 32) for page in shown)


def test_a_row_may_be_given_a_picture_before_anything_is_written(diary: Any, tmp_path: Path) -> None:
    diary.WORK["anomaly_tested"] = lambda rows, **_: setattr(rows[2], "picture", "maps/third.png")
    folder = run_experiment(config(tmp_path)).folder
    with (folder / "predictions.csv").open(newline="") as file:
        assert [row["picture"] for row in csv.DictReader(file)] == ["", "", "maps/third.png", "", "", "", ""]
    assert RunFolder.open(folder).result().predictions[2].picture == "maps/third.png"


def test_a_failure_is_told_and_raised(diary: Any, tmp_path: Path) -> None:
    root = tmp_path / "weave"
    run_experiment(config(tmp_path))
    diary.PAGES.clear()
    next(root.glob("linen/test/good/*.png")).write_bytes(b"no picture")
    with pytest.raises(AnomalyError) as caught:
        run_experiment(config(tmp_path))
    assert told(diary) == ["configure", "run_start", "run_error"]
    assert pages(diary, "run_error")[0]["error"] is caught.value


@pytest.mark.parametrize("hook", [name for name in HOOKS if name not in ("anomaly_predicted", "anomaly_doctor")])
def test_an_observer_that_fails_is_a_warning_and_no_lost_run(
    hook: str, diary: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise ValueError("out of ink")

    diary.WORK[hook] = fail
    if hook == "anomaly_run_error":
        with pytest.raises(AnomalyError, match="no test image"):
            run_experiment(config(tmp_path, **{"data.good_count": 0, "data.bad_count": 0}))
    else:
        assert isinstance(run_experiment(config(tmp_path)), RunResults)
    warned = [record.getMessage() for record in caplog.records if "out of ink" in record.getMessage()]
    assert warned == [f"the hook {hook} of anomaly-diary:diary 1.2.3 failed: ValueError: out of ink. The run goes on."]


def test_an_observer_may_refuse_a_config(diary: Any, tmp_path: Path) -> None:
    def refuse(**_: Any) -> None:
        raise ConfigError("a run of this line needs a prompt.")

    diary.WORK["anomaly_configure"] = refuse
    with pytest.raises(ConfigError, match="needs a prompt"):
        run_experiment(config(tmp_path))
    assert not (tmp_path / "runs").exists()
