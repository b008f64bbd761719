"""An exported file gets another calibration: graph, weights and scores stay, and no engine is needed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomaly_core import RunError, registry
from anomaly_export import ExportedDetector
from anomaly_export.metadata import read_metadata
from anomaly_export.writers import recalibrate


@pytest.fixture
def copy(exported: dict[str, Path], tmp_path: Path) -> Path:
    for path in exported["onnx"].parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt"])
def test_another_calibration_leaves_the_scores(copy: Path, images: Path, name: str) -> None:
    path = copy / name
    before, shots = ExportedDetector(path), sorted((images / "bad").iterdir())
    scores, _ = before(shots)
    calibration = before.calibration.with_threshold(float(np.median(scores)), chosen_by="costs", interval=(0.0, 0.25))
    del before
    recalibrate(path, calibration)
    after = ExportedDetector(path)
    assert after.calibration == calibration and after.calibration.false_alarm_interval() == (0.0, 0.25)
    assert np.array_equal(after(shots)[0], scores)


def test_a_damaged_file_is_refused_or_stays_damaged(copy: Path) -> None:
    path = copy / "model.onnx"
    _, metadata = read_metadata(path)
    path.write_bytes(path.read_bytes().replace(b'"method": "patchcore"', b'"method": "PATCHCORE"'))
    with pytest.raises(RunError, match="not as it was written"):
        recalibrate(path, metadata.calibration)
    recalibrate(path, replace(metadata.calibration, threshold=1.0), verify=False)
    with pytest.raises(RunError, match="not as it was written"):
        ExportedDetector(path)
    assert ExportedDetector(path, verify=False).calibration.threshold == 1.0


def test_every_engine_that_opens_files_can_recalibrate_them() -> None:
    specs = [component.spec for component in registry.engines.values() if component.distribution == "anomaly-export"]
    assert [bool(spec.rewriter) for spec in specs] == [bool(spec.reader) for spec in specs]


def test_a_threshold_set_by_hand_says_what_it_gives(copy: Path) -> None:
    _, metadata = read_metadata(copy / "model.onnx")
    scores = metadata.calibration.scores
    changed = metadata.with_threshold(scores[-1]).calibration
    assert (changed.chosen_by, changed.false_alarm_rate) == ("value", 1 / (len(scores) + 2))
    assert "about" in changed.promise()
