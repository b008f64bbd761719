"""Frozen networks in every engine: the values of PyTorch, for any batch, in fit and predict alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_core import Backbones, RunConfig, load_run, run_experiment
from anomaly_core.backbones import FeatureExtractor
from anomaly_core.engines import use_engine
from anomaly_core.errors import ConfigError, PluginError
from anomaly_core.features import FeatureCache
from anomaly_core.registry import registry

ENGINES = ("onnx", "openvino", "torchscript")


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor("tf_efficientnet_lite0", ["blocks.2", "blocks.4"], Backbones()).eval()


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_those_of_torch_for_any_batch_and_size(extractor: FeatureExtractor, engine: str) -> None:
    sizes = [(1, (64, 64)), (3, (64, 64)), *([(2, (48, 80))] if engine == "onnx" else [])]  # each size is compiled anew
    for count, size in sizes:
        images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))
        use_engine(extractor, "torch")
        with torch.inference_mode():
            expected = extractor(images)
            use_engine(extractor, engine)
            found = extractor(images)
        for level, reference in zip(found, expected, strict=True):
            assert level.shape == reference.shape
            assert float((level - reference).abs().max() / reference.abs().max()) < 1e-4
    use_engine(extractor, "torch")


def test_openvino_computes_in_float32_where_the_processor_has_bfloat16(extractor: FeatureExtractor) -> None:
    from anomaly_export.compilers import _network_as_onnx
    from anomaly_export.quiet import import_openvino
    from anomaly_export.sessions import openvino_compiled

    openvino = import_openvino()
    model, _ = _network_as_onnx(extractor, (32, 32))
    compiled = openvino_compiled(openvino.Core().read_model(model, b""), 1)
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_bfloat16_is_close_and_never_mistaken_for_float32(extractor: FeatureExtractor, tmp_path: Path) -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    use_engine(extractor, "torch")
    expected, name = extractor(images), extractor.identity()
    use_engine(extractor, "openvino_bf16")
    for level, reference in zip(extractor(images), expected, strict=True):
        assert level.dtype == torch.float32
        assert float((level - reference).abs().max() / reference.abs().max()) < 0.1
    assert extractor.identity() != name
    use_engine(extractor, "torch")


def test_a_cpu_without_bfloat16_is_told_and_computes_in_float32(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly_export.quiet import import_openvino

    monkeypatch.setattr(import_openvino().Core, "get_property", lambda *_: ["FP32"])
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    use_engine(extractor, "torch")
    expected = extractor(images)
    use_engine(extractor, "openvino_bf16")
    with pytest.warns(UserWarning, match="no bfloat16"):
        found = extractor(images)
    assert float((found[0] - expected[0]).abs().max() / expected[0].abs().max()) < 1e-4
    use_engine(extractor, "torch")


def test_what_one_call_returned_is_not_changed_by_the_next(extractor: FeatureExtractor) -> None:
    use_engine(extractor, "openvino")
    first = extractor(torch.zeros(2, 3, 64, 64))[0]
    kept = first.clone()
    extractor(torch.ones(2, 3, 64, 64))
    use_engine(extractor, "torch")
    assert torch.equal(first, kept)


def test_a_cache_on_disk_keeps_engines_apart(extractor: FeatureExtractor, tmp_path: Path) -> None:
    names = set()
    for engine in ("torch", *ENGINES):
        use_engine(extractor, engine)
        names.add(extractor.identity())
    assert len(names) == 4
    use_engine(extractor, "onnx")
    images = torch.rand(2, 3, 64, 64)
    plain = extractor(images)
    extractor.cache = FeatureCache(2**24, tmp_path)
    for _ in range(2):
        for level, expected in zip(extractor(images), plain, strict=True):
            torch.testing.assert_close(level, expected)
    assert (extractor.cache.hits, extractor.cache.misses) == (2, 2)
    extractor.cache = None
    use_engine(extractor, "torch")


def test_a_run_fits_and_predicts_in_its_engine(run: Path, images: Path, tmp_path: Path) -> None:
    config = RunConfig.create(config=run / "config.yaml", overrides={"base.engine": "openvino", "base.output": str(tmp_path)})
    result = run_experiment(config).runs[0]
    paths = sorted((images / "bad").iterdir())
    fast = load_run(result.folder)
    assert fast.modeler.extractor.engine == "openvino"
    eager = load_run(result.folder, engine="torch")
    assert eager.modeler.extractor.compiled is None
    np.testing.assert_allclose(fast.predict(paths).scores, eager.predict(paths).scores, rtol=1e-3)
    np.testing.assert_allclose(fast.predict(paths).scores, load_run(run).predict(paths).scores, rtol=1e-3)


def test_a_method_without_frozen_network_says_that_the_engine_does_nothing() -> None:
    config = RunConfig.create(model="vanilla_ae", data="folder", preset="edge", overrides={"data.normal": "x"})
    modeler = registry.models["vanilla_ae"].build(config.model)
    with pytest.warns(UserWarning, match="no frozen network"):
        use_engine(modeler, "onnx")


def test_errors_name_the_command_and_the_device(extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="no engine is called 'tensorrt'"):
        use_engine(extractor, "tensorrt")
    use_engine(extractor, "onnx")
    with pytest.raises(ConfigError, match="computes on the CPU"):
        extractor(torch.zeros(1, 3, 64, 64, device="meta"))
    use_engine(extractor, "torch")
    monkeypatch.setattr("anomaly_core.engines.find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r'pip install "anomaly-export\[openvino\]"'):
        use_engine(extractor, "openvino")


def test_openvino_tells_nobody_that_it_is_used() -> None:
    """Its import would fork a process that sends a message; nothing of ours may."""
    program = (
        "import multiprocessing, sys\n"
        "from anomaly_export.quiet import import_openvino\n"
        "def refuse(*arguments, **options): raise SystemExit('a process was made to send a message')\n"
        "multiprocessing.Process.start = refuse\n"
        "openvino = import_openvino()\n"
        "openvino.Core()\n"
        "sys.exit('openvino_telemetry' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
