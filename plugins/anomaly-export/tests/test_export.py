"""A whole detector in a file: the scores of its run, in every format, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from anomaly_core import AnomalyError, ConfigError, DataError, RunConfig, RunError, main
from anomaly_export import ExportedDetector, export_run
from anomaly_export import export as exporting
from anomaly_export.containers import field
from anomaly_export.metadata import Metadata, read_metadata
from anomaly_export.sessions import openvino_has_bfloat16
from anomaly_predict import load_run, verdicts

FORMATS = {"onnx": "model.onnx", "openvino": "model.xml", "torchscript": "model.pt"}


@pytest.mark.parametrize("name", FORMATS)
def test_scores_and_maps_are_the_runs_for_paths_arrays_and_any_batch(
    exported: dict[str, Path], run: Path, images: Path, tmp_path: Path, name: str
) -> None:
    paths = sorted(images.rglob("*.*"))
    expected = load_run(run).predict(paths)
    for batch_size in (1, 5):
        scores, maps = ExportedDetector(exported[name], batch_size=batch_size, threads=1)(paths)
        assert (scores.dtype, maps.dtype, maps.shape) == (np.float32, np.float32, (len(paths), 1, 64, 64))
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-4)
        np.testing.assert_allclose(maps, expected.maps, atol=1e-4 * float(expected.maps.max()))
    detector = ExportedDetector(exported[name], threads=1)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.open(images / "good" / f"{i}.png").convert("RGB").crop((0, 0, 96, 80)).save(file)
    arrays = [np.asarray(Image.open(file)) for file in files]
    from_files = detector(files)[0]
    np.testing.assert_array_equal(detector(np.stack(arrays))[0], from_files)
    np.testing.assert_array_equal(detector(arrays[1])[0], from_files[1:2])
    np.testing.assert_array_equal(detector([arrays[0], arrays[1][:60]])[0][:1], from_files[:1])


@pytest.mark.parametrize("name", FORMATS)
def test_regions_are_the_runs(exported: dict[str, Path], run: Path, images: Path, name: str) -> None:
    paths = sorted((images / "bad").iterdir())
    options = {"least_area": 20.0, "mm_per_px": 0.25}
    wanted = list(verdicts(load_run(run), paths, **options))
    found = list(verdicts(ExportedDetector(exported[name], threads=1), paths, **options))
    assert wanted[0].regions and [verdict.size for verdict in found] == [(80, 96), (120, 64), (104, 72)]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.regions is not None and theirs.regions is not None
        assert [region.map_box for region in ours.regions] == [region.map_box for region in theirs.regions]
        for one, other in zip(ours.regions, theirs.regions, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=1)
            assert one.area == pytest.approx(other.area, rel=1e-3) and one.peak == pytest.approx(other.peak, rel=1e-3)
            assert one.area_mm2 == pytest.approx(one.area / 16, rel=1e-3) and one.p_value == other.p_value


@pytest.mark.parametrize("name", FORMATS)
def test_a_method_without_frozen_network_is_exported_with_its_reconstructions(
    finished_autoencoder: Path, images: Path, name: str, tmp_path: Path
) -> None:
    report = export_run(finished_autoencoder, name, tmp_path / FORMATS[name])
    assert max(report.score_difference, report.map_difference) < 1e-4
    detector = ExportedDetector(report.path, threads=1)
    assert detector.metadata.outputs == ("scores", "maps", "reconstruction")
    paths = sorted((images / "bad").iterdir())
    expected = load_run(finished_autoencoder).predict(paths)
    predictions = detector.score([detector.decode(path) for path in paths])
    assert expected.reconstruction is not None
    for i, one in enumerate(predictions):
        assert one.reconstruction is not None and one.reconstruction.shape == (1, 3, 64, 64)
        np.testing.assert_allclose(one.reconstruction[0], expected.reconstruction[i], atol=1e-4)
        assert one.score == pytest.approx(float(expected.scores[i]), rel=1e-4)


def test_the_file_says_everything_that_a_verdict_needs(exported: dict[str, Path], run: Path) -> None:
    config = RunConfig.create(config=run / "config.yaml")
    original = load_run(run)
    for path in exported.values():
        metadata = ExportedDetector(path, threads=1).metadata
        assert metadata.method == "patchcore"
        assert metadata.config == config.to_dict()
        assert metadata.input_spec == original.modeler.input_spec
        assert metadata.calibration == original.calibration
        assert metadata.outputs == ("scores", "maps")
        assert metadata.versions["anomaly-patchcore"]


def test_metadata_is_read_as_it_was_written(exported: dict[str, Path]) -> None:
    for path in exported.values():
        container, metadata = read_metadata(path)
        assert Metadata.from_json(metadata.to_json(), path) == metadata
        assert metadata.graph_sha256 == container.digest()
    assert onnx.load(str(exported["onnx"])).producer_name == "anomaly-export"
    assert field(1, b"x" * 300)[:3] == b"\x0a\xac\x02"


@pytest.mark.parametrize("name", FORMATS)
def test_another_threshold_changes_verdicts_and_not_scores(
    exported: dict[str, Path], images: Path, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / exported[name].name
    for file in exported[name].parent.glob("model.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    paths = sorted((images / "bad").iterdir())
    before = ExportedDetector(copy, threads=1)
    scores, _ = before(paths)
    middle = float(np.sort(scores)[1])
    assert ExportedDetector(copy, threshold=middle, threads=1).is_anomalous(scores).sum() == 1
    assert call("export", str(copy), "--threshold", repr(middle)) == 0
    after = ExportedDetector(copy, threads=1)
    assert after.calibration.threshold == middle
    assert after.calibration.scores == before.calibration.scores
    np.testing.assert_array_equal(after(paths)[0], scores)
    assert f"-> {middle}" in capfd.readouterr().out


@pytest.mark.parametrize("file", ["model.onnx", "model.xml"])
def test_no_torch_is_imported_by_detector_or_predict(
    exported: dict[str, Path], images: Path, file: str, tmp_path: Path
) -> None:
    path = exported["onnx"].with_name(file)
    program = f"""
import sys
sys.modules["torch"] = None  # whoever imports it fails
from anomaly_export import ExportedDetector
from pathlib import Path
scores, maps = ExportedDetector({str(path)!r})(sorted(Path({str(images / "bad")!r}).iterdir()))
print(*scores.tolist())
from anomaly_core import main
main(["predict", {str(path)!r}, {str(images / "bad")!r}, "--jsonl", "--maps", {str(tmp_path)!r}])
"""
    environment = {
        "ANOMALY_PLUGINS": "anomaly-export,anomaly-predict,anomaly-report",
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin",
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()
    expected, _ = ExportedDetector(path, threads=1)(sorted((images / "bad").iterdir()))
    np.testing.assert_allclose([float(score) for score in first.split()], expected, rtol=1e-6)
    np.testing.assert_allclose([json.loads(row)["score"] for row in rows], expected, rtol=1e-6)
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert "images/s" in done.stderr


def test_openvino_opens_onnx_files_too(exported: dict[str, Path], images: Path) -> None:
    paths = sorted((images / "bad").iterdir())
    detector = ExportedDetector(exported["onnx"], "openvino", threads=1)
    np.testing.assert_allclose(detector(paths)[0], ExportedDetector(exported["onnx"], threads=1)(paths)[0], rtol=1e-4)


def test_bfloat16_is_kept_in_the_file_and_compared_by_a_limit_of_its_own(run: Path, images: Path, tmp_path: Path) -> None:
    report = export_run(run, "openvino", tmp_path / "model.xml", precision="bf16")
    assert "computed in bfloat16" in str(report) and "must be < 0.1" in str(report)
    detector = ExportedDetector(tmp_path / "model.xml", threads=1)
    assert detector.metadata.precision == "bf16"
    paths = sorted(images.rglob("*.png"))
    expected = load_run(run).predict(paths).scores.numpy()
    np.testing.assert_allclose(detector(paths)[0], expected, atol=0.1 * expected.max())
    if openvino_has_bfloat16():
        assert report.score_difference > 1e-5  # float32 agrees to 1e-6


def test_a_run_in_bfloat16_is_exported_and_compared_as_such(run: Path, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "run")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("engine: auto", "engine: openvino_bf16"))
    report = export_run(copy, "openvino", verify=False)
    assert (report.precision, ExportedDetector(report.path).metadata.precision) == ("bf16", "bf16")
    assert report.score_difference < 1e-2  # the search's own rounding alone
    assert export_run(copy, "openvino", precision="f32", verify=False).precision == "f32"
    assert export_run(copy, "onnx", verify=False).precision == "f32"
    with pytest.raises(ConfigError, match="onnx computes in float32"):
        export_run(copy, "onnx", precision="bf16")


def test_what_does_not_agree_is_an_error_and_leaves_what_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"before")
    honest = exporting.run_scores

    def spoilt(detector: Any, samples: Any) -> Any:
        predictions = honest(detector, samples)
        predictions[1].scores *= 1.01
        return predictions

    monkeypatch.setattr(exporting, "run_scores", spoilt)
    with pytest.raises(RunError, match="does not agree"):
        export_run(run, "onnx", target)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_without_its_data_random_images_are_compared_and_it_is_said(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = copied(run, tmp_path / "run")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("/bad", "/gone").replace("/good", "/gone"))
    assert call("export", str(copy), "--format", "onnx", "--no-verify") == 0
    assert "random images (the run's own are not there any more)" in capfd.readouterr().out
    assert (copy / "model.onnx").is_file()


def test_an_approximate_search_is_exported_as_the_exact_one(run: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    copy = copied(run, tmp_path / "run")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("search: exact", "search: hnsw"))
    assert load_run(copy, verify=False).config.model.search == "hnsw"
    report = export_run(copy, "onnx", verify=False)
    assert report.score_difference < 1e-4


def test_bad_input_is_refused_with_words(run: Path, exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ends in"):
        export_run(run, "onnx", tmp_path / "model.bin")
    with pytest.raises(ConfigError, match="no format"):
        export_run(run, "tflite")
    with pytest.raises(RunError, match="there is no file"):
        ExportedDetector(tmp_path / "model.onnx")
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(exported["onnx"].read_bytes()[:1000])
    with pytest.raises(RunError, match=r"cannot use .*torn\.onnx"):
        ExportedDetector(torn)
    detector = ExportedDetector(exported["onnx"], threads=1)
    with pytest.raises(DataError, match="uint8"):
        detector(np.zeros((2, 8, 8, 3), dtype=np.float32))
    with pytest.raises(DataError, match="no image was given"):
        detector([])
    assert issubclass(RunError, AnomalyError)


def copied(run: Path, folder: Path) -> Path:
    """The run's own files in a folder that a test may change."""
    folder.mkdir()
    for file in run.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def call(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code
