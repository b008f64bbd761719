"""Graphs of a stranger, with sound metadata and digest: another input, another output, an engine that fails."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from anomaly_core import ConfigError, RunError
from anomaly_export import ExportedDetector, writers
from anomaly_export.containers import open_container
from anomaly_export.metadata import read_metadata

IMAGES = list(np.zeros((3, 64, 64, 3), dtype=np.uint8))
pytestmark = pytest.mark.reliability("input")


def small_graph(folder: Path, scores: list[onnx.NodeProto], dtype: int = TensorProto.FLOAT, side: int = 64) -> Path:
    """A graph of a stranger, whose metadata and digest are sound."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", side, side, 3])
    output = helper.make_tensor_value_info("scores", dtype, None)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["pixels"], to=dtype), *scores], "graph", [images], [output]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = folder / "small.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def signed(path: Path, exported: dict[str, Path], outputs: tuple[str, ...] = ("scores",)) -> Path:
    _, metadata = read_metadata(exported["onnx"])
    container = open_container(path)
    spec = dataclasses.replace(metadata.input_spec, center_crop=None, size=(64, 64))
    changed = dataclasses.replace(metadata, graph_sha256=container.digest(), outputs=outputs, input_spec=spec)
    writers._put(container, path, changed)
    return path


def mean_of(output: str) -> list[onnx.NodeProto]:
    return [helper.make_node("ReduceMean", ["pixels"], [output], axes=[1, 2, 3], keepdims=0)]


@pytest.mark.parametrize(
    ("nodes", "dtype", "outputs", "match"),
    [
        ([helper.make_node("ReduceMean", ["pixels"], ["scores"], keepdims=1)], 1, ("scores",), r"float32 \(1, 1, 1, 1\)"),
        ([helper.make_node("ReduceMean", ["pixels"], ["scores"], keepdims=0)], 1, ("scores",), r"float32 \(\)"),
        (mean_of("scores"), TensorProto.DOUBLE, ("scores",), r"float64 \(2,\)"),
        (mean_of("scores"), 1, ("scores", "maps"), "maps"),
        ([helper.make_node("Reshape", ["pixels", "pixels"], ["scores"])], 1, ("scores",), "onnx cannot open"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_outputs_that_are_no_detectors_are_one_error(
    exported: dict[str, Path], tmp_path: Path, nodes: Any, dtype: int, outputs: tuple[str, ...], match: str
) -> None:
    with pytest.raises(RunError, match=match) as caught:
        ExportedDetector(signed(small_graph(tmp_path, nodes, dtype), exported, outputs), threads=1).score(IMAGES)
    assert "small.onnx" in str(caught.value) and "\n" not in str(caught.value)


def test_scores_that_are_no_numbers_are_returned_as_they_are(exported: dict[str, Path], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["m"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["m", "m"], ["scores"]),
    ]
    detector = ExportedDetector(signed(small_graph(tmp_path, nodes), exported), threads=1)
    assert np.isnan([one.score for one in detector.score(IMAGES)]).all()


def test_an_input_of_a_thousand_million_pixels_is_refused(exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"takes images of the shape \['batch', 31623, 31623, 3\]"):
        ExportedDetector(signed(small_graph(tmp_path, mean_of("scores"), side=31623), exported), threads=1)


def test_an_engine_that_fails_later_is_one_error(exported: dict[str, Path]) -> None:
    detector = ExportedDetector(exported["onnx"], threads=1)

    def broken(images: Any) -> Any:
        raise RuntimeError("first line\nbad allocation")

    detector._session._run = broken
    with pytest.raises(RunError, match=r"onnx cannot score 2 images with .*model\.onnx': bad allocation\. Choose a smaller"):
        detector.score(IMAGES)


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/hostname", "weights.bin"])
def test_weights_in_another_file_are_not_looked_for(tmp_path: Path, place: str) -> None:
    """Neither out of the folder, which ONNX Runtime would refuse too, nor beside the graph, which it would not."""
    (tmp_path / "weights.bin").write_bytes(bytes(4))
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=place)
    path = small_graph(tmp_path, [*mean_of("raw"), helper.make_node("Add", ["raw", "weight"], ["scores"])])
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer.append(weight)
    path.write_bytes(model.SerializeToString())
    for verify in (True, False):
        with pytest.raises(RunError, match="weights in another file"):
            ExportedDetector(path, threads=1, verify=verify)


def test_an_engine_that_is_none_is_named(exported: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="the engine 'tensorrt' opens no files"):
        ExportedDetector(exported["onnx"], "tensorrt")
