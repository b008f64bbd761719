"""``anomaly run --export FORMAT``: from images to a file in one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly_core import main
from anomaly_predict import load_run, open_detector

SMALL = [
    "data.size=64",
    "data.train_count=4",
    "data.good_count=2",
    "data.bad_count=5",
    "model.image_size=64",
    "base.pictures=0",
]


def command(tmp_path: Path, *more: str) -> list[str]:
    sets = [part for text in [*SMALL, f"data.root={tmp_path / 'data'}"] for part in ("--set", text)]
    named = ["run", "--model", "patchcore", "--data", "sample", "--category", "wood", "--preset", "edge"]
    return [*named, "--output", str(tmp_path / "runs"), *sets, *more]


def test_each_run_leaves_a_file_that_scores_as_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command(tmp_path, "--export", "onnx"))
    assert not ended.value.code
    (file,) = (tmp_path / "runs").rglob("model.onnx")
    assert "agrees with the run on" in capsys.readouterr().out
    images = sorted((tmp_path / "data").rglob("test/*/*.png"))[:3]
    expected = load_run(file.parent).predict(images).scores.tolist()
    assert open_detector(file).predict(images).scores.tolist() == pytest.approx(expected, rel=1e-4)


def test_a_format_that_there_is_not_is_said_before_anything_is_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(command(tmp_path, "--export", "onx"))
    assert "for --export: 'onx' is not one of 'onnx', 'openvino', 'torchscript'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
