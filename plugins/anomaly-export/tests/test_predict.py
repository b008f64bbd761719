"""One ``predict``: a run's folder and the files that were exported from it answer alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import ConfigError, DataError, RunError
from anomaly_export import ExportedDetector, export_run
from anomaly_predict import load_run, open_detector

FORMATS = ("onnx", "openvino", "torchscript")


def rgb(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


FORMS: dict[str, Callable[[list[Path]], Any]] = {
    "a path": lambda paths: paths[0],
    "paths": lambda paths: [*map(str, paths)],
    "PIL images": lambda paths: [Image.open(path) for path in paths],
    "an array": lambda paths: rgb(paths[0]),
    "arrays of many sizes": lambda paths: [*map(rgb, paths)],
    "an array of several": lambda paths: np.stack([rgb(paths[0])] * 3),
    "a tensor": lambda paths: torch.from_numpy(rgb(paths[0]).copy()).permute(2, 0, 1),
    "some of each": lambda paths: [paths[0], rgb(paths[1]), Image.open(paths[2])],
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_form_of_image_has_the_verdict_of_the_run(exported: dict[str, Path], run: Path, images: Path, name: str) -> None:
    paths = sorted((images / "bad").iterdir())
    whole, file = load_run(run, "cpu"), open_detector(exported[name], threads=1)
    for form in FORMS.values():
        ours, theirs = (detector.predict(form(paths), batch_size=2) for detector in (file, whole))
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4)
        assert ours.maps.shape == tuple(theirs.maps.shape)
        assert ours.reconstruction is theirs.reconstruction is None
        assert ours.is_anomalous.tolist() == theirs.is_anomalous.tolist()
        assert ours.p_values.tolist() == theirs.p_values.tolist() and ours.threshold == theirs.threshold
        assert {type(part) for part in (ours.scores, ours.maps, ours.is_anomalous, ours.p_values)} == {np.ndarray}
        assert {type(part) for part in (theirs.scores, theirs.maps, theirs.is_anomalous, theirs.p_values)} == {torch.Tensor}
    assert [one.is_anomalous.tolist() for one in file.score([file.decode(paths[0])])] == [[True]]


def test_bgr_is_taken_by_runs_and_files(exported: dict[str, Path], run: Path, images: Path) -> None:
    paths = sorted((images / "bad").iterdir())
    frames = [rgb(path)[..., ::-1] for path in paths]  # as cv2.imread gives them
    for detector in (load_run(run, "cpu"), open_detector(exported["onnx"], threads=1)):
        expected = detector.predict([*map(rgb, paths)]).scores.tolist()
        assert detector.predict(frames, colour="BGR").scores.tolist() == expected
        assert detector.predict(frames).scores.tolist() != expected
        assert np.array_equal(detector.place(frames[0], colour="BGR"), detector.place(rgb(paths[0])))
        with pytest.raises(ConfigError, match="says itself what its colours are"):
            detector.predict([frames[0], paths[0]], colour="BGR")
        with pytest.raises(DataError, match="no image was given"):
            detector.predict([])
    (_, streamed), *_ = load_run(run, "cpu").stream(iter(frames), batch_size=3, colour="BGR")
    np.testing.assert_allclose(streamed.scores, expected, rtol=1e-4)


def test_a_threshold_given_to_a_file_is_that_of_its_predictions(exported: dict[str, Path], images: Path) -> None:
    paths = sorted((images / "bad").iterdir())
    scores = ExportedDetector(exported["onnx"], threads=1).predict(paths).scores
    prediction = ExportedDetector(exported["onnx"], threads=1, threshold=float(np.sort(scores)[1])).predict(paths)
    assert prediction.is_anomalous.sum() == 1
    assert prediction.p_values.tolist() == [ExportedDetector(exported["onnx"]).calibration.p_value(s) for s in scores]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_divided_among_callers_and_scores_as_before(exported: dict[str, Path], images: Path, name: str) -> None:
    whole = ExportedDetector(exported[name], threads=2)
    divided = whole.for_callers(3)
    if name == "torchscript":
        assert divided is None
        return
    assert divided is not None and divided.metadata is whole.metadata and divided.for_callers(2) is not None
    decoded = [whole.decode(path) for path in sorted((images / "bad").iterdir())]
    expected = [whole.score([image])[0] for image in decoded]
    with ThreadPoolExecutor(3) as pool:
        parts = [*pool.map(lambda number: divided.score([decoded[number % 3]])[0], range(30))]
    for number, part in enumerate(parts):
        np.testing.assert_allclose(part.scores, expected[number % 3].scores, rtol=1e-4)
        np.testing.assert_allclose(part.maps, expected[number % 3].maps, rtol=1e-3, atol=1e-4)
        assert part.is_anomalous.tolist() == expected[number % 3].is_anomalous.tolist()


def test_a_file_that_was_replaced_is_not_divided(exported: dict[str, Path], run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    shutil.copyfile(exported["onnx"], path)
    detector = ExportedDetector(path, threads=1)
    export_run(run, "onnx", path, images=1, any_size=True)
    with pytest.raises(RunError, match="replaced by another detector"):
        detector.for_callers(2)
