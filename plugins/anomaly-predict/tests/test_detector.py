"""A finished run applied to images in any form, and what cannot be scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_core import (
    AnomalyError,
    Calibration,
    ConfigError,
    DataError,
    ModelContext,
    PluginError,
    RunError,
    RunResults,
    run_experiment,
)
from anomaly_predict import load_run, open_detector
from odd_images import BAD, spoil
from poison import KINDS, poisons
from tiny.data import draw, write_image
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_experiment(config(tmp_path_factory.mktemp("finished")))


def test_a_loaded_run_takes_every_form_of_image_and_agrees(finished: RunResults) -> None:
    detector = load_run(finished.folder)
    row = finished.predictions[0]
    with Image.open(row.path) as opened:
        picture = opened.convert("RGB")
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms = [row.path, Path(row.path), picture, array, tensor, tensor.float() / 255]
    for form in forms:
        prediction = detector.predict(form)
        assert float(prediction.scores[0]) == pytest.approx(row.score, rel=1e-6)
        assert prediction.maps is not None and prediction.maps.shape == (1, 1, 32, 32)
    assert detector.predict(forms, batch_size=2).scores.shape == (6,)
    assert detector.predict(np.stack([array, array])).scores.shape == (2,)
    assert detector.predict(tensor[None].repeat(3, 1, 1, 1)).scores.shape == (3,)
    grey = detector.predict(array[..., :1]).scores
    assert torch.equal(grey, detector.predict(np.repeat(array[..., :1], 3, axis=2)).scores)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "an array image must be"),
        ([np.zeros((4, 4, 2), dtype=np.uint8)], "an array image must be"),
        (torch.zeros(2, 4, 4), "a tensor image must be"),
        ([7], "this is of type int"),
        ([], "no image was given"),
    ],
)
def test_what_is_no_image_is_refused(image: object, words: str, finished: RunResults) -> None:
    with pytest.raises(DataError, match=words):
        load_run(finished.folder).predict(image)


def test_predictions_have_the_verdicts_of_the_run(finished: RunResults) -> None:
    detector = load_run(finished.folder)
    paths, rows = [row.path for row in finished.predictions], finished.predictions
    prediction = detector.predict(paths, batch_size=2)
    assert prediction.is_anomalous.dtype == torch.bool and len({*prediction.is_anomalous.tolist()}) == 2
    assert prediction.is_anomalous.tolist() == [row.is_anomalous for row in rows]
    assert prediction.p_values.tolist() == [row.p_value for row in rows]
    scored = detector.score([detector.decode(path) for path in paths])
    assert [one.is_anomalous.tolist() for one in scored] == [[row.is_anomalous] for row in rows]
    detector.calibration = Calibration(None, 0.01, 0, "none")
    without = detector.predict(paths[0])
    assert without.is_anomalous is without.p_values is None


def test_predictions_of_files_are_those_of_the_run(finished: RunResults) -> None:
    detector = open_detector(finished.folder, threads=1)
    images = [detector.decode(row.path) for row in finished.predictions]
    assert [prediction.score for prediction in detector.score(images)] == [row.score for row in finished.predictions]
    assert detector.calibration == finished.runs[0].calibration
    for path, image in zip((row.path for row in finished.predictions), images, strict=True):
        assert (detector.place(path) == image).all() and (detector.place(Image.open(path)) == image).all()


@pytest.mark.parametrize("name", [*BAD, "dangling.png", "forbidden.png"])
def test_a_bad_image_is_named(name: str, finished: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "0.png", draw(60)[0])
    spoil(tmp_path, monkeypatch)
    with pytest.raises(DataError, match=name):
        load_run(finished.folder).predict([tmp_path / "0.png", tmp_path / name])


def test_an_opened_image_that_turns_out_to_be_damaged(finished: RunResults, tmp_path: Path) -> None:
    (tmp_path / "t.png").write_bytes(BAD["truncated.png"])
    with Image.open(tmp_path / "t.png") as image, pytest.raises(DataError, match=r"t\.png"):
        load_run(finished.folder).predict(image)


def test_what_cannot_be_opened_is_said(finished: RunResults, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run's folder"):
        open_detector(tmp_path)
    (tmp_path / "model.xyz").touch()
    with pytest.raises(RunError, match="neither a run's folder nor a file that can be opened"):
        open_detector(tmp_path / "model.xyz")
    (tmp_path / "model.bin").touch()
    with pytest.raises(RunError, match=r"A \.bin file has only weights: give model\.xml, which must lie beside it\.$"):
        open_detector(tmp_path / "model.bin")
    with pytest.raises(RunError, match=r"Give the run's folder, '.*'\.$"):
        open_detector(finished.folder / "model.safetensors")
    with pytest.raises(PluginError, match="pip install anomaly-export"):
        open_detector(tmp_path / "model.xyz", engine="onnx")
    with pytest.raises(ConfigError, match="has no frozen network that the engine 'onnx' could compute"):
        load_run(finished.folder, engine="onnx")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ConfigError, match="is a file, which computes on the CPU, not on 'cuda'"):
        open_detector(tmp_path / "model.onnx", "cuda")
    with pytest.raises(ConfigError, match=r"the device 'cuda:99' is not available here"):
        load_run(finished.folder, device="cuda:99")


def test_a_method_knows_its_categories_and_the_prompt_when_it_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data.category": ["linen", "wool"], "data.unified": True, "data.prompt": "a cloth"}
    folder = run_experiment(config(tmp_path, **options)).folder
    assert load_run(folder).modeler.context == ModelContext(False, ("linen", "wool"), "a cloth")


@pytest.mark.reliability
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's word before it refuses the file
@pytest.mark.parametrize("kind", KINDS)
def test_malicious_weights_execute_nothing(finished: RunResults, canary: Path, tmp_path: Path, kind: str, record) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    (folder / "model.safetensors").write_bytes(poisons(canary)[kind])
    with pytest.raises(AnomalyError, match=r"model\.safetensors"):
        load_run(folder)
    record("security", f"a malicious {kind} file as a run's weights")


def test_an_array_is_streamed_as_the_images_that_it_holds(finished: RunResults) -> None:
    detector = load_run(finished.folder)
    array = draw(60)[0]
    expected = detector.predict(array).scores
    for images in (array, array[None], iter([array])):  # the rows of an image are no images
        assert [float(prediction.scores) for _, prediction in detector.stream(images)] == expected.tolist()
    with pytest.raises(DataError, match="this is of type NoneType"):
        next(detector.stream(None))  # type: ignore[arg-type]  # as a caller does whose frame is missing
