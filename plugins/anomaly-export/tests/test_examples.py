"""The programs in ``examples/`` that score an exported file without Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from anomaly_export import ExportedDetector, export_run
from anomaly_predict import load_run

CPP = Path(__file__).resolve().parents[3] / "examples" / "cpp"


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(run, "onnx", tmp_path_factory.mktemp("any") / "any.onnx", any_size=True).path


def test_a_verdict_needs_the_runtime_and_text_alone(model: Path, run: Path, images: Path) -> None:
    """What the examples in C++ and C# do, with the same names and in the same order."""
    session = onnxruntime.InferenceSession(str(model))
    said = session.get_modelmeta().custom_metadata_map
    threshold = float(said["anomaly.threshold"])
    normal = [float(one) for one in said["anomaly.scores"].split(" ")]
    detector = load_run(run)
    for path in sorted((images / "bad").glob("*.png")):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        score = float(session.run(["scores"], {"images": pixels[None]})[0][0])
        expected = detector.predict(path)
        assert score == pytest.approx(float(expected.scores[0]), rel=1e-5)
        assert (score > threshold) == bool(expected.is_anomalous[0])
        p_value = (1 + sum(one >= score for one in normal)) / (1 + len(normal))
        assert p_value == pytest.approx(float(expected.p_values[0]))


def test_the_cpp_example_prints_the_verdict_of_python(model: Path, images: Path, tmp_path: Path) -> None:
    places = [Path(one) for one in (os.environ.get("ONNXRUNTIME", ""), "/usr", "/usr/local") if one]
    headers = [place for place in places if any((place / "include").rglob("onnxruntime_cxx_api.h"))]
    if not headers or shutil.which("cmake") is None:
        pytest.skip("ONNX Runtime's C++ headers or cmake are not installed; $ONNXRUNTIME names a release's folder")
    build = tmp_path / "build"
    subprocess.run(["cmake", "-S", str(CPP), "-B", str(build), f"-DONNXRUNTIME={headers[0]}"], check=True)
    subprocess.run(["cmake", "--build", str(build)], check=True)
    image = tmp_path / "image.ppm"
    with Image.open(images / "bad" / "blot.png") as picture:
        picture.convert("RGB").save(image)
    done = subprocess.run([str(build / "verdict"), str(model), str(image)], capture_output=True, text=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ExportedDetector(model).score_native(image)
    assert done.returncode == int(expected.is_anomalous[0]), done.stderr
    assert f"score={float(expected.scores[0]):.4g}"[:9] in done.stdout
    (tmp_path / "cut.ppm").write_bytes(image.read_bytes()[:-1])
    cut = subprocess.run([str(build / "verdict"), str(model), str(tmp_path / "cut.ppm")], capture_output=True, text=True)
    assert cut.returncode == 2 and "cut short" in cut.stderr and not cut.stdout
