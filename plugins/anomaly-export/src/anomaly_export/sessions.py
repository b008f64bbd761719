"""Runs an exported file in its engine: uint8 (B, H, W, 3) images in, numpy arrays out. Only TorchScript imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import PluginError, RunError, registry, thread_count
from anomaly_export.metadata import KEY, Metadata, Precision
from anomaly_export.quiet import import_openvino

Run = Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]


def open_session(path: Path, engine: str | None = None, threads: int | None = None) -> tuple[Run, Metadata, str]:
    """The file, ready to run, its metadata, and the engine's name.

    Raises:
        PluginError: the engine's library is not installed, or cannot be imported.
        RunError: the file is missing, damaged, or not written by ``anomaly export``.
    """
    if not path.is_file():
        raise RunError(f"there is no file {str(path)!r}. Give one that `anomaly export` wrote.")
    engine = engine or {".onnx": "onnx", ".xml": "openvino"}.get(path.suffix.lower(), "torchscript")
    opener = {"onnx": _open_onnx, "openvino": _open_openvino, "torchscript": _open_torchscript}[engine]
    try:
        run, metadata = opener(path, threads or thread_count())
    except ImportError as error:
        component = registry.engines[engine]
        component.require_library()
        raise PluginError(
            f"{component.spec.module}, which the engine {engine!r} needs, cannot be imported: {error}. "
            f"Install it again: {component.spec.install}"
        ) from error
    except RunError:
        raise
    except Exception as error:  # each engine has its own exceptions for a file that it cannot read
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise RunError(f"{engine} cannot open {str(path)!r}: {reason} Export the run again.") from error
    return run, metadata, engine


def _open_onnx(path: Path, threads: int) -> tuple[Run, Metadata]:
    session = onnx_session(str(path), threads)
    metadata = Metadata.from_json(session.get_modelmeta().custom_metadata_map.get(KEY), path)
    names = list(metadata.outputs)

    def run(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = session.run(names, {"images": images})
        return outputs

    return run, metadata


def onnx_session(model: str | bytes, threads: int) -> Any:
    """A session on the CPU. Its threads sleep between calls, because decoding needs the cores too."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _open_openvino(path: Path, threads: int) -> tuple[Run, Metadata]:
    model = import_openvino().Core().read_model(str(path))
    place = [KEY] if path.suffix.lower() == ".xml" else ["framework", KEY]
    text = model.get_rt_info(place).astype(str) if model.has_rt_info(place) else None
    metadata = Metadata.from_json(text, path)
    compiled = openvino_compiled(model, threads, metadata.precision)

    def run(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        results = compiled.create_infer_request().infer({0: images})
        return [results[name] for name in metadata.outputs]

    return run, metadata


def openvino_compiled(model: Any, threads: int, precision: Precision = "f32") -> Any:
    """A model compiled for the CPU. By default, OpenVINO would choose bfloat16 whenever the CPU supports it."""
    options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    return import_openvino().Core().compile_model(model, "CPU", options)


def openvino_has_bfloat16() -> bool:
    """Whether this CPU has bfloat16; without it, OpenVINO computes in float32 whatever the setting."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _open_torchscript(path: Path, threads: int) -> tuple[Run, Metadata]:
    import torch

    extra: dict[str, Any] = {f"{KEY}.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated in favour of torch.export
        graph = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    text = extra[f"{KEY}.json"]
    metadata = Metadata.from_json(text.decode() if isinstance(text, bytes) else text, path)
    torch.set_num_threads(threads)

    def run(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [output.numpy() for output in graph(torch.from_numpy(images))]

    return run, metadata
