"""A model repository for Triton: read by the protobuf of Triton's own client, and the file in it scores as its run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from anomaly_core import ConfigError, main
from anomaly_export import ExportedDetector
from anomaly_export.triton import CONFIG, MODEL, export_triton
from anomaly_predict import load_run

text_format = pytest.importorskip("google.protobuf.text_format", reason='pip install "tritonclient[grpc]"')
model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason='pip install "tritonclient[grpc]"')


def read(folder: Path) -> Any:
    return text_format.Parse((folder / CONFIG).read_text("utf-8"), model_config.ModelConfig())


@pytest.fixture(scope="module")
def repository(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two versions of one model, the second with a threshold of its own."""
    folder = tmp_path_factory.mktemp("repository")
    assert export_triton(run, folder, name="part", images=2).version == 1
    assert export_triton(run, folder, name="part", images=2, threshold=2.5).version == 2
    return folder


def test_versions_add_up_and_nothing_else_lies_there(repository: Path) -> None:
    files = sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())
    assert files == [str(Path(*parts)) for parts in (("part", "1", MODEL), ("part", "2", MODEL), ("part", CONFIG))]


def test_the_config_says_what_the_graph_takes_and_gives(repository: Path) -> None:
    config = read(repository / "part")
    assert (config.name, config.platform, config.max_batch_size) == ("part", "onnxruntime_onnx", 8)
    assert config.HasField("dynamic_batching") and config.version_policy.latest.num_versions == 2
    types = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
    for version in ("1", "2"):
        graph = onnx.load(str(repository / "part" / version / MODEL)).graph
        for own, ours in ((graph.input, config.input), (graph.output, config.output)):
            assert [tensor.name for tensor in own] == [tensor.name for tensor in ours]
            for tensor, described in zip(own, ours, strict=True):
                batch, *sides = tensor.type.tensor_type.shape.dim
                assert batch.dim_param and not batch.dim_value, "Triton's batches are of any size"
                dims = described.reshape.shape if described.HasField("reshape") else described.dims
                assert [side.dim_value for side in sides] == list(dims)
                assert types[tensor.type.tensor_type.elem_type] == model_config.DataType.Name(described.data_type)
    assert list(config.output[0].dims) == [1], "Triton takes no output without a dimension beside the batch's"


def test_the_threshold_of_each_version_is_in_the_config(repository: Path, run: Path) -> None:
    parameters = {key: float(value.string_value) for key, value in read(repository / "part").parameters.items()}
    own = load_run(run).calibration.threshold
    assert parameters == {"threshold_1": own, "threshold_2": 2.5}
    assert ExportedDetector(repository / "part" / "2" / MODEL, threads=1).calibration.threshold == 2.5


def test_the_file_in_the_repository_scores_as_its_run(repository: Path, run: Path, images: Path) -> None:
    paths = sorted((images / "bad").iterdir())
    scores, _ = ExportedDetector(repository / "part" / "1" / MODEL, threads=1)(paths)
    np.testing.assert_allclose(scores, load_run(run).predict(paths).scores, rtol=1e-4)


def test_a_graph_that_resizes_by_itself_takes_any_size(run: Path, images: Path, tmp_path: Path) -> None:
    added = export_triton(run, tmp_path, name="part", images=2, any_size=True)
    (described,) = read(tmp_path / "part").input
    assert list(described.dims) == [-1, -1, 3]
    (tensor,) = onnx.load(str(added.report.path)).graph.input
    assert [side.dim_value for side in tensor.type.tensor_type.shape.dim] == [0, 0, 0, 3]
    with pytest.raises(ConfigError, match="another --name"):
        export_triton(run, tmp_path, name="part", images=1)


def test_what_was_set_by_hand_stays(repository: Path, run: Path, tmp_path: Path) -> None:
    export_triton(run, tmp_path, name="part", version=7, images=1)
    config = tmp_path / "part" / CONFIG
    config.write_text(config.read_text("utf-8").replace("KIND_CPU", "KIND_GPU").rstrip("\n"), "utf-8")
    assert export_triton(run, tmp_path, name="part", images=1).version == 8
    changed = read(tmp_path / "part")
    assert changed.instance_group[0].kind == model_config.ModelInstanceGroup.Kind.KIND_GPU
    assert sorted(changed.parameters) == ["threshold_7", "threshold_8"]


def test_nothing_is_replaced_and_a_refusal_leaves_nothing(
    repository: Path, run: Path, finished_autoencoder: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"has a version 1, .* Leave --version out for 3"):
        export_triton(run, repository, name="part", version=1)
    with pytest.raises(ConfigError, match=r"describes another model: .* another --name"):
        export_triton(finished_autoencoder, repository, name="part", images=1)
    for name in ("../part", "", "a/b", ".hidden", "a" * 65):
        with pytest.raises(ConfigError, match="--name"):
            export_triton(run, tmp_path, name=name)
    with pytest.raises(ConfigError, match="from 1"):
        export_triton(run, tmp_path, name="part", version=0)
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.iterdir())


def test_the_command_names_the_model_after_its_category_and_says_what_serves_it(
    finished_autoencoder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main(["export", str(finished_autoencoder), *arguments])
        return ended.value.code, "".join(capsys.readouterr())

    code, text = call("--format", "triton", "--output", str(tmp_path), "--images", "1")
    assert not code and f"{images.name}, version 1: tritonserver --model-repository={tmp_path}" in text
    assert [tensor.name for tensor in read(tmp_path / images.name).output] == ["scores", "maps", "reconstruction"]
    assert "needs --output" in call("--format", "triton")[1]
    assert "Add --format triton" in call("--format", "onnx", "--name", "part")[1]
    assert "float32" in call("--format", "triton", "--output", str(tmp_path), "--precision", "int8")[1]
