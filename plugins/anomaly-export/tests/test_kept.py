"""The graph that a run keeps: it predicts as the run does, without torch, and only for the run that it was made from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from anomaly_core import CALIBRATION, ConfigError, RunError, RunFolder
from anomaly_core.cli import cli
from anomaly_export import ExportedDetector, export
from anomaly_export.containers import OnnxFile
from anomaly_export.kept import GRAPH, NOTE, keep
from anomaly_predict import RunDetector, load_run, open_detector
from anomaly_predict.quick import open_quickly

QUICK = {"device": "cpu", "engine": "onnx", "quick": True}


@pytest.fixture(scope="module")
def keeping(run: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps its graph, in another folder than that in which it was made."""
    folder = tmp_path_factory.mktemp("moved") / "run"
    shutil.copytree(run, folder)
    assert "needs no torch" in keep(folder, "onnx", sorted((images / "bad").iterdir())[:2])
    assert not list((folder / "engine").glob("*.part"))
    return folder


@pytest.fixture
def copy(keeping: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(keeping, tmp_path / "run"))


def predict(folder: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["predict", str(folder), *map(str, arguments)], catch_exceptions=False)


def test_it_predicts_as_the_run_does(keeping: Path, run: Path, images: Path) -> None:
    paths = sorted((images / "bad").iterdir())
    frames = [np.asarray(Image.open(path).convert("RGB"))[..., ::-1] for path in paths]
    quick, whole = open_detector(keeping, **QUICK), load_run(run, "cpu", "torch")
    assert isinstance(quick, ExportedDetector) and isinstance(open_detector(keeping, "cpu"), RunDetector)
    for shots, colour in ((paths, "RGB"), (frames, "BGR")):
        ours, theirs = quick.predict(shots, colour=colour), whole.predict(shots, colour=colour)
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5)
        np.testing.assert_allclose(ours.maps, theirs.maps, rtol=1e-4, atol=1e-4)
        assert ours.p_values.tolist() == theirs.p_values.tolist() and ours.threshold == theirs.threshold


def test_every_output_of_the_command_is_the_same(keeping: Path, run: Path, images: Path, tmp_path: Path) -> None:
    rows, files = [], []
    for number, (folder, engine) in enumerate(((run, "torch"), (keeping, "onnx"), (keeping, "openvino"))):
        place = tmp_path / str(number)
        options = ("--engine", engine, "--jsonl", "--mm-per-px", "0.5", "--maps", place, "--coco", f"{place}.json")
        result = predict(folder, images / "bad", *options)
        assert result.exit_code == 0 and "torch" not in result.stderr
        rows.append([json.loads(line) for line in result.stdout.splitlines()])
        files.append([np.asarray(Image.open(path), dtype=int) for path in sorted(place.iterdir())])
        assert json.loads(Path(f"{place}.json").read_text())["annotations"]
    for other, pictures in zip(rows[1:], files[1:], strict=True):
        assert len(other) == len(rows[0]) == 3
        for ours, theirs in zip(other, rows[0], strict=True):
            assert ours["score"] == pytest.approx(theirs["score"], rel=1e-5)
            assert [region["box"] for region in ours["regions"]] == [region["box"] for region in theirs["regions"]]
            same = ("path", "is_anomalous", "p_value", "width", "height")
            assert [ours[name] for name in same] == [theirs[name] for name in same]
        for drawn, expected in zip(pictures, files[0], strict=True):
            assert (np.abs(drawn - expected) > 2).mean() < 1e-3  # a pixel may take the next colour


def test_no_torch_is_imported(keeping: Path, images: Path) -> None:
    code = (
        "import sys\nfrom anomaly_core.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n"
        "    print(*{'torch', 'timm', 'scipy', 'sklearn', 'matplotlib', 'openvino', 'onnxruntime'} & sys.modules.keys())"
    )
    arguments = ["predict", str(keeping), str(images / "bad" / "blot.png"), "--engine", "onnx", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "onnxruntime"


def test_the_first_prediction_keeps_a_graph(run: Path, images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    shot = images / "bad" / "blot.png"
    first, second = (predict(folder, shot, "--engine", "onnx", "--device", "cpu") for _ in range(2))
    assert "needs no torch" in first.stderr and "needs no torch" not in second.stderr
    scores = [float(result.stdout.splitlines()[1].split(",")[1]) for result in (first, second)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert RunFolder.open(folder).differing() == {}


@pytest.mark.parametrize("options", [("--engine", "torch"), ("--no-verify", "--engine", "onnx")])
def test_what_needs_torch_keeps_nothing(run: Path, images: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    result = predict(folder, images / "bad" / "blot.png", "--device", "cpu", *options)
    assert result.exit_code == 0 and not (folder / "engine").exists()


def test_a_new_threshold_is_used_at_once(copy: Path, images: Path) -> None:
    shot = images / "bad" / "blot.png"
    before = open_detector(copy, **QUICK)
    limit = float(before.predict(shot).scores[0])
    assert before.predict(shot).is_anomalous.all()
    run = RunFolder.open(copy)
    run.write_json(CALIBRATION, run.calibration().with_threshold(2 * limit).to_dict())  # as `anomaly threshold RUN` does
    after = open_detector(copy, **QUICK)
    assert isinstance(after, ExportedDetector) and after.calibration.threshold == 2 * limit
    assert not after.predict(shot).is_anomalous.any()


def test_a_damaged_graph_is_warned_of_and_made_anew(copy: Path, images: Path) -> None:
    shot = images / "bad" / "blot.png"
    data = bytearray((copy / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / GRAPH).write_bytes(data)
    with pytest.warns(UserWarning, match="not used.*SHA-256"):
        assert isinstance(open_detector(copy, **QUICK), RunDetector)
    with pytest.warns(UserWarning, match="not used.*SHA-256"):
        assert "needs no torch" in predict(copy, shot, "--engine", "onnx", "--device", "cpu").stderr
    assert isinstance(open_detector(copy, **QUICK), ExportedDetector)


def test_a_graph_that_another_was_put_in_place_of_is_not_used(copy: Path, exported: dict[str, Path]) -> None:
    other = ExportedDetector(exported["onnx"]).metadata.with_threshold(1.0)
    OnnxFile(exported["onnx"]).write(copy / GRAPH, other.to_json())  # sound, and by chance the same graph
    assert isinstance(open_detector(copy, **QUICK), ExportedDetector)
    note = json.loads((copy / NOTE).read_text())
    (copy / NOTE).write_text(json.dumps({**note, "graph_sha256": "0" * 64}))
    with pytest.warns(UserWarning, match="not the graph that was compared"):
        assert isinstance(open_detector(copy, **QUICK), RunDetector)


def test_the_graph_of_another_run_is_not_used(copy: Path) -> None:
    run = RunFolder.open(copy)
    weights = (copy / "model.safetensors").read_bytes()
    run.write("model.safetensors", weights + b" " * 8)  # as a run that was fitted on other images
    assert open_quickly(copy, "cpu", "onnx") is None


def test_a_damaged_run_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RunError, match="is not what the run wrote"):
        open_quickly(copy, "cpu", "onnx")


def test_a_folder_that_cannot_be_written_still_predicts(run: Path, images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "engine").write_text("")  # no folder can be made
    result = predict(folder, images / "bad" / "blot.png", "--engine", "onnx", "--device", "cpu")
    assert result.exit_code == 0 and result.stderr.count("goes on predicting with torch") == 1
    assert len(result.stdout.splitlines()) == 2


def test_a_refusal_is_said_once(copy: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "STRICT", 0.0)
    (copy / NOTE).unlink()
    shot = images / "bad" / "blot.png"
    first, second = (predict(copy, shot, "--engine", "onnx", "--device", "cpu") for _ in range(2))
    assert "go on predicting with torch" in first.stderr and "does not agree" in first.stderr
    assert "predicting with torch" not in second.stderr


def test_the_command_makes_it(copy: Path) -> None:
    (copy / NOTE).unlink()
    result = CliRunner().invoke(cli, ["export", str(copy), "--images", "2"], catch_exceptions=False)
    assert result.exit_code == 0 and "needs no torch" in result.stdout and (copy / NOTE).exists()
    refused = CliRunner().invoke(cli, ["export", str(copy), "--output", "x.onnx"])
    assert refused.exit_code == 2 and "--output would be ignored" in refused.stderr


def test_an_engine_is_refused_for_a_method_that_has_none(finished_autoencoder: Path, images: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_autoencoder, tmp_path / "run"))
    assert "needs no torch" in keep(folder, "onnx", [images / "bad" / "blot.png"])
    assert isinstance(open_detector(folder, "cpu", quick=True), ExportedDetector)
    with pytest.raises(ConfigError, match="no frozen network"):
        open_detector(folder, **QUICK)
