"""A run that is fitted in INT8: what is quantised is kept with it, and everything computes by that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from anomaly_core import CALIBRATION, ConfigError, MissingLibrary, RunConfig, RunFolder, run_experiment
from anomaly_core.cli import cli
from anomaly_export import ExportedDetector, export_run
from anomaly_export.kept import INT8_GRAPH, keep, open_kept
from anomaly_features import Backbones, ExtractorOptions, FeatureExtractor
from anomaly_predict import load_run, open_detector

ENGINE = "openvino_int8"


@pytest.fixture(scope="module")
def fitted(images: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the other tests, fitted in INT8."""
    overrides = {"model.engine": ENGINE, "base.output": str(tmp_path_factory.mktemp("int8"))}
    return run_experiment(RunConfig.create(config=run / "config.yaml", overrides=overrides)).runs[0].folder


@pytest.fixture
def copy(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def extractor(engine: str = ENGINE) -> FeatureExtractor:
    return FeatureExtractor("tf_efficientnet_lite0", ["blocks.1"], Backbones(), ExtractorOptions(engine=engine)).eval()


def batches(count: int = 2) -> Iterator[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return (torch.randint(0, 256, (3, 3, 32, 32), generator=draw) / 255 for _ in range(count))


def test_features_are_close_and_those_of_a_saved_state_the_same() -> None:
    network, images = extractor(), next(batches())
    with pytest.raises(ConfigError, match="this network was not"):
        network(images)
    network.calibrate(batches())
    (computed,), (expected,) = network(images), extractor("torch")(images)
    assert 1e-4 < float((computed - expected).abs().mean() / expected.abs().mean()) < 0.1
    again = extractor()
    before = again.identity()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images)[0], computed)
    assert again.identity() == network.identity() != before
    with pytest.raises(ConfigError, match="quantised for images of 32 x 32 pixels, and is given 64 x 48"):
        network(torch.zeros(1, 3, 64, 48))
    extractor("torch").load_state_dict(network.state_dict())


def test_depthwise_convolutions_are_quantised_but_those_behind_the_pixels() -> None:
    from anomaly_export.quantised import read

    network = extractor()
    network.calibrate(batches())
    convolutions = [op for op in read(network.quantised).get_ordered_ops() if op.get_type_name().endswith("Convolution")]
    scaled = [op.input_value(1).get_node() for op in convolutions]
    assert [node.get_type_name() == "Multiply" for node in scaled] == [False] * 2 + [True] * (len(scaled) - 2)
    depthwise = [op.input_value(1) for op in convolutions[2:] if op.get_type_name() == "GroupConvolution"]
    assert depthwise
    for weights in depthwise:  # a scale a channel, or OpenVINO would compute it in float32
        scale = weights.get_node().input_value(1).get_shape()
        assert list(scale) == [weights.get_shape()[0], 1, 1, 1, 1]


def test_a_run_predicts_as_it_was_fitted(fitted: Path, run: Path, images: Path) -> None:
    manifest = RunFolder(fitted).manifest()
    assert (manifest["engine"], manifest["precision"]) == (ENGINE, "int8")
    paths = sorted((images / "bad").iterdir())
    detector = load_run(fitted)
    assert "extractor.quantised" in detector.modeler.trained_state(), "checkpoints keep it"
    scores = detector.predict(paths).scores.numpy()
    rows = {row.path: row.score for row in RunFolder(fitted).result().predictions}
    np.testing.assert_allclose(scores, [rows[str(path)] for path in paths], rtol=1e-5)
    assert not np.allclose(scores, load_run(fitted, engine="torch").predict(paths).scores, rtol=1e-4), "torch computed it"
    with pytest.raises(ConfigError, match="was quantised when the run was fitted, and this network was not"):
        load_run(run, engine=ENGINE).predict(paths)


def test_export_writes_the_quantised_network_or_says_what_else(copy: Path, run: Path, images: Path) -> None:
    report = export_run(copy, "openvino")
    assert report.precision == "int8" and "computed in INT8" in str(report)
    paths = sorted((images / "bad").iterdir())
    scores = ExportedDetector(report.path, threads=1).predict(paths).scores
    np.testing.assert_allclose(scores, load_run(copy).predict(paths).scores, rtol=1e-5)
    with pytest.warns(UserWarning, match="onnx computes in float32 here: other scores"):
        assert export_run(copy, "onnx", images=2).precision == "f32"
    with pytest.raises(ConfigError, match="onnx computes in float32"):
        export_run(copy, "onnx", precision="int8")
    with pytest.raises(ConfigError, match="is for a run that was fitted in it"):
        export_run(run, "openvino", precision="int8")


def test_the_kept_graph_needs_no_torch_and_belongs_to_its_run(copy: Path, run: Path, images: Path) -> None:
    shot = images / "bad" / "blot.png"
    assert "needs no torch" in keep(copy, ENGINE, [shot]) and keep(copy, ENGINE, [shot]) == ""
    detector = open_detector(copy, "cpu", quick=True)
    assert isinstance(detector, ExportedDetector) and detector.metadata.precision == "int8"
    np.testing.assert_allclose(detector.predict(shot).scores, load_run(copy).predict(shot).scores, rtol=1e-5)
    folder = RunFolder.open(copy)
    folder.write_json(CALIBRATION, folder.calibration().with_threshold(1.0).to_dict())
    assert open_detector(copy, "cpu", quick=True).calibration.threshold == 1.0
    assert keep(run, ENGINE, [shot]) == "" and open_kept(RunFolder.open(run), RunFolder.open(run).config(), ENGINE) is None
    graph = copy / INT8_GRAPH
    weights = bytearray(graph.with_suffix(".bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    graph.with_suffix(".bin").write_bytes(weights)
    with pytest.warns(UserWarning, match="not used.*SHA-256"):
        assert not isinstance(open_detector(copy, "cpu", quick=True), ExportedDetector)
    result = CliRunner().invoke(cli, ["doctor", str(copy), "--json"])
    assert "not used" in json.dumps(json.loads(result.stdout)["problems"])


def test_what_is_damaged_or_missing_is_no_verdict(copy: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_run(copy).modeler.extractor
    network.quantised[8:200] = 0
    with pytest.raises(Exception, match="the run is damaged"):
        network(torch.zeros(1, 3, 64, 64))
    monkeypatch.setattr("anomaly_export.quantised.find_spec", lambda _: None)
    with pytest.raises(MissingLibrary, match=r'pip install "anomaly-export\[int8\]"'):
        extractor().calibrate(batches())
    assert len(load_run(copy).predict(images / "bad" / "blot.png").scores) == 1, "a run that is fitted needs no nncf"


def test_it_is_chosen_by_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_ENGINE", ENGINE)
    with pytest.raises(ConfigError, match="must say so in its config"):
        extractor("auto")
    monkeypatch.setattr("anomaly_features.engines.has_int8", lambda: False)
    with pytest.warns(UserWarning, match="no instructions for INT8"):
        extractor()
