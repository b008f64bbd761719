"""Frozen networks in every engine: the values of PyTorch, for any batch, in fit and predict alike."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_core import ConfigError, MissingLibrary, PluginError, RunConfig, RunFolder, run_experiment
from anomaly_features import Backbones, ExtractorOptions, FeatureExtractor
from anomaly_predict import load_run

ENGINES = ("onnx", "openvino", "torchscript")
NETWORK = "tf_efficientnet_lite0", ["blocks.2", "blocks.4"]


@cache
def extractor(engine: str = "torch") -> FeatureExtractor:
    """The same network in an engine."""
    return FeatureExtractor(*NETWORK, Backbones(), ExtractorOptions(engine=engine)).eval()


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_those_of_torch_for_any_batch_and_size(engine: str) -> None:
    sizes = [(1, (64, 64)), (3, (64, 64)), *([(2, (48, 80))] if engine == "onnx" else [])]  # each size is compiled anew
    for count, size in sizes:
        images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(count))
        with torch.inference_mode():
            expected = extractor()(images)
            computed = extractor(engine)(images)
        for level, reference in zip(computed, expected, strict=True):
            assert level.shape == reference.shape
            assert float((level - reference).abs().max() / reference.abs().max()) < 1e-4
            assert not torch.equal(level, reference), "another engine rounds otherwise: torch itself computed this"


def test_openvino_computes_in_float32_where_the_processor_has_bfloat16() -> None:
    from anomaly_export.compilers import network_as_onnx
    from anomaly_export.quiet import import_openvino
    from anomaly_export.sessions import openvino_compiled

    openvino = import_openvino()
    model, _ = network_as_onnx(extractor(), (32, 32))
    compiled = openvino_compiled(openvino.Core().read_model(model, b""), 1)
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_bfloat16_is_close_and_never_mistaken_for_float32() -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = extractor()(images)
    for level, reference in zip(extractor("openvino_bf16")(images), expected, strict=True):
        assert level.dtype == torch.float32
        assert float((level - reference).abs().max() / reference.abs().max()) < 0.1
    assert extractor("openvino_bf16").identity() not in {extractor("openvino").identity(), extractor().identity()}


def test_a_cpu_without_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    from anomaly_export.quiet import import_openvino

    monkeypatch.setattr(import_openvino().Core, "get_property", lambda *_: ["FP32"])
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = extractor()(images)
    extractor.cache_clear()  # a size that was compiled already would not be compiled anew
    computed = extractor("openvino_bf16")(images)
    assert float((computed[0] - expected[0]).abs().max() / expected[0].abs().max()) < 1e-4
    extractor.cache_clear()


def test_auto_takes_openvino_then_onnx_runtime_then_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANOMALY_ENGINE", raising=False)
    absent: set[str] = set()
    monkeypatch.setattr("anomaly_core.component.find_spec", lambda name: None if name in absent else name)
    for expected, library in (("openvino", "openvino"), ("onnx", "onnxruntime"), ("torch", "")):
        assert extractor("auto").engine == expected
        extractor.cache_clear()
        absent.add(library)


def test_what_one_call_returned_is_not_changed_by_the_next() -> None:
    first = extractor("openvino")(torch.zeros(2, 3, 64, 64))[0]
    kept = first.clone()
    extractor("openvino")(torch.ones(2, 3, 64, 64))
    assert torch.equal(first, kept)


def test_a_cache_on_disk_keeps_engines_apart(tmp_path: Path) -> None:
    assert len({extractor(engine).identity() for engine in ("torch", *ENGINES)}) == 4
    images = torch.rand(2, 3, 64, 64)
    for engine in ("onnx", "torch"):
        plain = extractor(engine)(images)
        options = ExtractorOptions(engine=engine, feature_cache="disk", cache_folder=str(tmp_path))
        network = FeatureExtractor(*NETWORK, Backbones(), options).eval()
        with network.caching(repeated=True):
            for _ in range(2):
                for level, expected in zip(network(images), plain, strict=True):
                    torch.testing.assert_close(level, expected)
            assert network.cache is not None
            assert (network.cache.hits, network.cache.misses) == (2, 2), f"{engine} found what it had not computed"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_fits_and_predicts_in_its_engine(run: Path, images: Path, tmp_path: Path) -> None:
    config = RunConfig.create(config=run / "config.yaml", overrides={"model.engine": "openvino", "base.output": str(tmp_path)})
    result = run_experiment(config).runs[0]
    paths = sorted((images / "bad").iterdir())
    fast = load_run(result.folder)
    assert fast.modeler.extractor.engine == "openvino"
    eager = load_run(result.folder, engine="torch")
    assert eager.modeler.extractor.engine == "torch"
    assert RunFolder(result.folder).manifest().items() >= {"engine": "openvino", "precision": "float32"}.items()
    np.testing.assert_allclose(fast.predict(paths).scores, eager.predict(paths).scores, rtol=1e-3)
    np.testing.assert_allclose(fast.predict(paths).scores, load_run(run).predict(paths).scores, rtol=1e-3)


def test_a_method_without_frozen_network_refuses_an_engine(finished_autoencoder: Path) -> None:
    with pytest.raises(ConfigError, match="'vanilla_ae' has no frozen network that the engine 'onnx' could compute"):
        load_run(finished_autoencoder, engine="onnx")
    overrides = {"data.normal": "x", "model.engine": "onnx"}
    with pytest.raises(ConfigError, match=r"unknown option model\.engine"):
        RunConfig.create(model="vanilla_ae", data="folder", preset="edge", overrides=overrides)


def test_errors_name_the_command_and_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="no engine is called 'tensorrt'"):
        extractor("tensorrt")
    with pytest.raises(ConfigError, match=r"model\.engine=onnx computes on the CPU"):
        extractor("onnx")(torch.zeros(1, 3, 64, 64, device="meta"))
    extractor.cache_clear()
    monkeypatch.setattr("anomaly_core.component.find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match=r'pip install "anomaly-export\[openvino\]"'):
        extractor("openvino")


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


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # which is what is tried
def test_a_forked_process_computes_in_torch_or_says_why_not() -> None:
    """OpenVINO would wait for threads that only the parent has, for ever."""
    program = (
        "import os, torch\n"
        "from anomaly_core import RunError\n"
        "from anomaly_features import Backbones, ExtractorOptions, FeatureExtractor\n"
        "def build(engine):\n"
        "    return FeatureExtractor('tf_efficientnet_lite0', [2], Backbones(), ExtractorOptions(engine=engine))\n"
        "images = torch.rand(2, 3, 64, 64)\n"
        "automatic, named = build('auto'), build('openvino')\n"
        "before = automatic(images)[0]\n"
        "named(images)\n"
        "assert automatic.engine == 'openvino'\n"
        "if child := os.fork():\n"
        "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "torch.set_num_threads(1)\n"
        "for network in (automatic, build('auto')):\n"
        "    after = network(images)[0]\n"
        "    assert network.engine == 'torch'\n"
        "    assert float((after - before).abs().max() / before.abs().max()) < 1e-4\n"
        "for network in (named, build('openvino')):\n"
        "    try: network(images)\n"
        "    except RunError as error: assert 'do not survive a fork' in str(error)\n"
        "    else: os._exit(3)\n"
    )
    environment = {**os.environ, "ANOMALY_ENGINE": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
