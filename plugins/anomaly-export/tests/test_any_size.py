"""A graph that resizes by itself: to the last bit as Pillow does, in every engine, for images of any size."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from anomaly_core import ConfigError, ImageReader, InputSpec, RegionOfInterest, RunError
from anomaly_export import ExportedDetector, export_run
from anomaly_export import any_size as resizing
from anomaly_export.any_size import AnySize
from anomaly_export.commands import export
from anomaly_export.containers import PLAIN, open_container
from anomaly_export.quiet import import_openvino
from anomaly_predict import load_run

SPECS = {
    "stretch": InputSpec((48, 64)),
    "stretch, cropped": InputSpec((49, 48), "stretch", (32, 33)),
    "keep": InputSpec((48, 48), "keep"),
    "keep, cropped": InputSpec((49, 48), "keep", (32, 33)),
    "pad": InputSpec((48, 48), "pad"),
    "pad, cropped": InputSpec((48, 40), "pad", (32, 32)),
}
SIZES = [(150, 200), (200, 150), (48, 48), (32, 32), (32, 33), (16, 250), (250, 16), (1, 1), (2, 700), (350, 3), (240, 320)]
SIZES += [(49, 45), (450, 32)]  # tall, which Pillow from 13 on resizes down first


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_images_of_any_size_are_placed_as_pillow_does_it(name: str, engine: str) -> None:
    spec, draw = SPECS[name], np.random.default_rng(0)
    place = _opened(_graph(AnySize(spec, ImageReader())), engine)
    for size in SIZES:
        image = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
        np.testing.assert_array_equal(place(image[None])[0], spec.array(Image.fromarray(image)), str(size))


def test_older_pillows_resize_all_images_across_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tall = np.random.default_rng(0).integers(0, 256, (1, 450, 32, 3), dtype=np.uint8)
    placed = {}
    for version in ("12.3.0", "13.0.0"):
        monkeypatch.setattr(resizing.PIL, "__version__", version)
        placed[version] = AnySize(SPECS["stretch"], ImageReader())(torch.from_numpy(tall)).numpy().astype(int)
    difference = np.abs(placed["12.3.0"] - placed["13.0.0"])
    assert difference.max() == 1 and difference.any()


@pytest.mark.parametrize("format", ["onnx", "openvino", "torchscript"])
def test_a_whole_detector_scores_images_in_their_own_size(
    run: Path, images: Path, tmp_path: Path, format: str, exported: dict[str, Path]
) -> None:
    file = tmp_path / exported[format].name
    report = export_run(run, format, file, any_size=True)  # whose crop and `keep` are those of the fixture
    assert max(report.score_difference, report.map_difference) < 1e-5 and report.flipped == 0
    detector, original = ExportedDetector(file, threads=1), load_run(run)
    paths = sorted(images.rglob("*.*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that training did not have
        for path in paths:
            expected = original.predict(path)
            np.testing.assert_allclose(detector.score_native(path).scores, expected.scores, rtol=1e-5)
        np.testing.assert_allclose(detector.predict(paths).scores, original.predict(paths).scores, rtol=1e-5)
    assert detector.metadata.any_size and not ExportedDetector(exported[format]).metadata.any_size
    with pytest.raises(ConfigError, match="takes images of one size"):
        ExportedDetector(exported[format]).score_native(paths[0])


def test_other_programs_read_threshold_and_scores_without_json(run: Path, tmp_path: Path, images: Path) -> None:
    file = tmp_path / "any.onnx"
    result = CliRunner().invoke(export, [str(run), "--format", "onnx", "--any-size", "--output", str(file)])
    assert result.exit_code == 0, result.output
    calibration = ExportedDetector(file).calibration
    assert _plain(file) == {
        "threshold": repr(calibration.threshold),
        "map_threshold": repr(calibration.map_threshold),
        "scores": " ".join(map(repr, calibration.scores)),
    }
    assert CliRunner().invoke(export, [str(file), "--threshold", "2.5"]).exit_code == 0
    assert _plain(file)["threshold"] == "2.5" == repr(ExportedDetector(file).calibration.threshold)
    session = onnxruntime.InferenceSession(str(file))
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]


def test_a_plain_threshold_that_is_another_is_found(exported: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(str(exported["onnx"]))
    (threshold,) = [pair for pair in model.metadata_props if pair.key == f"{PLAIN}threshold"]
    threshold.value = "1000000.0"
    changed = tmp_path / "changed.onnx"
    container = open_container(exported["onnx"])
    assert container.metadata is not None
    changed.write_bytes(exported["onnx"].read_bytes().replace(threshold.key.encode(), threshold.key[:-1].encode() + b"e"))
    with pytest.raises(RunError, match="threshold that other programs read"):
        ExportedDetector(changed)


def test_what_a_graph_cannot_refuse_is_not_exported() -> None:
    with pytest.raises(ConfigError, match="region of interest"):
        AnySize(SPECS["pad"], ImageReader(roi=RegionOfInterest((2, 2, 20, 20))))


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--any-size"], "--any-size would be ignored"), (["--threshold", "3", "--any-size"], "--any-size would be ignored")],
)
def test_the_option_is_refused_where_it_does_nothing(
    run: Path, exported: dict[str, Path], words: list[str], message: str
) -> None:
    source = run if len(words) == 1 else exported["onnx"]
    result = CliRunner().invoke(export, [str(source), *words])
    assert result.exit_code == 2 and message in " ".join(result.output.split())


def _graph(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(2, 50, 60, 3, dtype=torch.uint8),),
            buffer,
            dynamo=False,
            opset_version=18,
            input_names=["images"],
            output_names=["placed"],
            dynamic_axes={"images": {0: "b", 1: "h", 2: "w"}, "placed": {0: "b"}},
        )
    return buffer.getvalue()


def _opened(model: bytes, engine: str) -> Any:
    if engine == "onnx":
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})[0]
    core = import_openvino().Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled({"images": images})[0]


def _plain(file: Path) -> dict[str, str]:
    pairs = {pair.key: pair.value for pair in onnx.load(str(file)).metadata_props}
    return {key.removeprefix(PLAIN): value for key, value in pairs.items() if key.startswith(PLAIN)}
