"""Runs an exported file in its engine: uint8 (B, H, W, 3) images in, numpy arrays out. Only TorchScript imports torch."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_core import ConfigError, PluginError, Prediction, RunError, registry, thread_count
from anomaly_export.metadata import Metadata, Precision, read_metadata
from anomaly_export.quiet import import_openvino

Array = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], list[Array]]


class Session:
    """An exported file, verified and then opened in an engine.

    Args:
        path: the file.
        engine: ``onnx``, ``openvino`` or ``torchscript``; None: by the file's suffix.
        threads: threads that the engine may use; None: ``$OMP_NUM_THREADS``, else one per core.
        verify: whether the file must be as it was written, by its SHA-256.
        callers: threads that call it at once, between which those of the engine are divided; torchscript takes one.

    Attributes:
        metadata: what the file says of itself.
        engine: the engine's name.

    Raises:
        ConfigError: there is no such engine.
        PluginError: the engine's library is not installed, or cannot be imported.
        RunError: the file is missing, no regular file, damaged, or not written by ``anomaly export``.
    """

    def __init__(
        self, path: Path, engine: str | None = None, threads: int | None = None, verify: bool = True, callers: int = 1
    ) -> None:
        self.path = path
        self.engine = engine or {".onnx": "onnx", ".xml": "openvino"}.get(path.suffix.lower(), "torchscript")
        self._threads, self._callers = threads or thread_count(), callers
        self._verify = verify
        self._inherited = False
        self.metadata = self._open()
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=partial(_leave, weakref.ref(self)))

    def _open(self) -> Metadata:
        _, metadata = read_metadata(self.path, self._verify)  # before the engine, whose parser may not survive a damaged file
        openers = {"onnx": _open_onnx, "openvino": _open_openvino, "torchscript": _open_torchscript}
        if self.engine not in openers:
            raise ConfigError(f"the engine {self.engine!r} opens no files. Choose one of: {', '.join(openers)}.")
        try:
            self._run = openers[self.engine](self.path, self._threads, self._callers, metadata)
        except ImportError as error:
            component = registry.engines[self.engine]
            component.require_library()
            raise PluginError(
                f"{component.spec.module}, which the engine {self.engine!r} needs, cannot be imported: {error}. "
                f"Install it again: {component.spec.install}"
            ) from error
        except Exception as error:  # each engine has its own exceptions for a file that it cannot read
            raise RunError(
                f"{self.engine} cannot open {str(self.path)!r}: {_reason(error)}. Export the run again, or update the engine."
            ) from error
        return metadata

    def __call__(self, images: NDArray[np.uint8]) -> Prediction[Array]:
        """The prediction for uint8 (B, H, W, 3) RGB images; RunError if the engine fails or its output is wrong."""
        if self._inherited:
            self._reopen()
        most = max(1, len(images)) if self.engine == "torchscript" else at_once(self._threads, self._callers)
        parts = [self._scored(images[start : start + most]) for start in range(0, max(1, len(images)), most)]
        if len(parts) == 1:
            return parts[0]
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in self.metadata.outputs
        }
        return Prediction(**joined)

    def for_callers(self, callers: int) -> Session | None:
        """The same file for so many threads that call it at once, each call computed in one thread; None for torchscript, whose
        calls share the threads of torch."""
        if self.engine == "torchscript":
            return None
        session = Session(self.path, self.engine, callers, self._verify, callers)
        self._require_same(session.metadata)
        return session

    def native(self, image: NDArray[np.uint8]) -> Prediction[Array]:
        """The prediction for one uint8 (H, W, 3) RGB image in its own size, by a graph that takes any."""
        assert self.metadata.any_size
        return self._checked(self._run(image[None]), 1)

    def _scored(self, images: NDArray[np.uint8]) -> Prediction[Array]:
        try:
            outputs = self._run(self._framed(images))
        except Exception as error:  # each engine has its own exceptions
            raise RunError(
                f"{self.engine} cannot score {len(images)} images with {str(self.path)!r}: {_reason(error)}. Choose a smaller "
                "batch_size if memory is short; otherwise export the run again."
            ) from error
        return self._checked(outputs, len(images))

    def _framed(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Images that were resized and cropped: for a graph that crops by itself in a frame, which it cuts off again."""
        spec = self.metadata.input_spec
        if not self.metadata.any_size or spec.center_crop is None:
            return images
        framed = np.zeros((len(images), *spec.size, 3), dtype=np.uint8)
        (height, width), (top, left) = (
            spec.center_crop,
            [round((a - b) / 2) for a, b in zip(spec.size, spec.center_crop, strict=True)],
        )
        framed[:, top : top + height, left : left + width] = images
        return framed

    def _reopen(self) -> None:
        if self.engine != "onnx":  # the others' threads belong to the process: a second session would wait for them too
            raise RunError(
                f"{str(self.path)!r} was opened before this process was forked, and the threads of {self.engine} do not "
                "survive a fork. Open it in the process that uses it, or start processes with the method 'spawn'."
            )
        self._require_same(self._open())
        self._inherited = False

    def _require_same(self, found: Metadata) -> None:
        if found.graph_sha256 != self.metadata.graph_sha256:
            raise RunError(f"{str(self.path)!r} was replaced by another detector since it was opened. Open it again.")

    def _checked(self, outputs: list[Array], count: int) -> Prediction[Array]:
        size = self.metadata.input_spec.output_size
        shapes = {"scores": (count,), "maps": (count, 1, *size), "reconstruction": (count, 3, *size)}
        names = self.metadata.outputs
        expected = [(shapes[name], np.dtype(np.float32)) for name in names]
        computed = [(getattr(output, "shape", None), getattr(output, "dtype", None)) for output in outputs]
        if computed != expected:
            raise RunError(
                f"{self.engine} computes with {str(self.path)!r} what is no detector's output: {_described(computed)}; for "
                f"{count} images, {_described(expected)} are expected ({', '.join(names)}). Export the run again."
            )
        arrays: dict[str, Any] = dict(zip(names, outputs, strict=True))
        return Prediction(**arrays)


def _leave(session: weakref.ref[Session]) -> None:
    """After a fork, in the child: it has the engine but not the engine's threads, for which scoring, and even giving the
    engine back, would wait for ever. So nobody gives it back, not even the interpreter at its end."""
    if (inherited := session()) is not None:
        inherited._inherited = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited._run))


def _described(outputs: list[tuple[Any, Any]]) -> str:
    return ", ".join(f"{dtype} {shape}" for shape, dtype in outputs) or "nothing"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".")[:400] if lines else type(error).__name__


def _require_input(shape: list[Any], metadata: Metadata) -> None:
    """ValueError if the graph's input is not that of the metadata: an engine might allocate what the graph claims."""
    expected = ["any", "any", 3] if metadata.any_size else [*metadata.input_spec.output_size, 3]
    found = [side if isinstance(side, int) else "any" for side in shape[1:]]
    if found != expected:
        raise ValueError(f"its graph takes images of the shape {shape}, and its metadata says {['B', *expected]}")


def at_once(threads: int, callers: int = 1) -> int:
    """How many images an engine computes at once: one a thread, and two at least for a single caller. What it computes in
    between then fits the cores' caches, which for small networks saves a quarter of the time."""
    return max(2, threads) if callers == 1 else max(1, threads // callers)


def _open_onnx(path: Path, threads: int, callers: int, metadata: Metadata) -> Run:
    session = onnx_session(str(path), max(1, threads // callers))
    (images,) = session.get_inputs()
    _require_input(images.shape, metadata)
    names = list(metadata.outputs)

    def run(images: NDArray[np.uint8]) -> list[Array]:
        outputs: list[Array] = session.run(names, {"images": images})
        return outputs

    return run


def onnx_session(model: str | bytes, threads: int) -> Any:
    """A session on the CPU. Its threads sleep between calls, because decoding needs the cores too."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _open_openvino(path: Path, threads: int, callers: int, metadata: Metadata) -> Run:
    model = import_openvino().Core().read_model(str(path))
    (images,) = model.inputs
    _require_input([side.get_length() if side.is_static else None for side in images.partial_shape], metadata)
    compiled = openvino_compiled(model, threads, metadata.precision, callers)

    def run(images: NDArray[np.uint8]) -> list[Array]:
        results = compiled.create_infer_request().infer({0: images})
        return [results[name] for name in metadata.outputs]

    return run


def openvino_compiled(model: Any, threads: int, precision: Precision = "f32", callers: int = 1) -> Any:
    """A model compiled for the CPU, for so many callers at once. By default, OpenVINO would choose bfloat16 whenever the CPU
    supports it."""
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": callers,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # decoding and torch need the cores too
    }
    return import_openvino().Core().compile_model(model, "CPU", options)


def openvino_has_bfloat16() -> bool:
    """Whether this CPU has bfloat16; without it, OpenVINO computes in float32 whatever the setting."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _open_torchscript(path: Path, threads: int, callers: int, metadata: Metadata) -> Run:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated in favour of torch.export
        graph = torch.jit.load(str(path), map_location="cpu")
    torch.set_num_threads(threads)

    def run(images: NDArray[np.uint8]) -> list[Array]:
        with torch.inference_mode():
            return [output.numpy() for output in graph(torch.from_numpy(images))]

    return run
