"""Writes graph and metadata to a file, one function per format, and replaces the metadata of an existing file."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_core import Calibration, RunError
from anomaly_export.containers import KEY, Container, field, open_container
from anomaly_export.metadata import Metadata, read_metadata
from anomaly_export.quiet import import_openvino

if TYPE_CHECKING:
    from anomaly_export.graph import DetectorGraph

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt"}
ELSEWHERE = "Copy the file (with OpenVINO, both files) to a folder that can be written, and change it there."
_PRODUCER_NAME = 2  # field of an ONNX model; the last value counts


def write_onnx(graph: DetectorGraph, path: Path, metadata: Metadata) -> None:
    """One ``.onnx`` file; the metadata is its metadata property ``anomaly``."""
    from anomaly_export.graph import to_onnx

    path.write_bytes(
        to_onnx(graph, graph.example(), metadata.outputs, any_size=metadata.any_size) + field(_PRODUCER_NAME, b"anomaly-export")
    )


def write_openvino(graph: DetectorGraph, path: Path, metadata: Metadata) -> None:
    """OpenVINO's two files, ``.xml`` with ``.bin`` beside it; the metadata is the runtime info ``anomaly``."""
    from anomaly_export.graph import to_onnx

    if metadata.precision == "int8":
        from anomaly_export.quantised import whole

        model = whole(graph.modeler, metadata.outputs)
    else:
        model = (
            import_openvino()
            .Core()
            .read_model(to_onnx(graph, graph.example(), metadata.outputs, any_size=metadata.any_size), b"")
        )
    model.set_rt_info("", [KEY])  # the place where the metadata goes
    import_openvino().save_model(model, str(path), compress_to_fp16=False)


def write_torchscript(graph: DetectorGraph, path: Path, metadata: Metadata) -> None:
    """One ``.pt`` archive; the metadata is its extra file ``anomaly.json``."""
    import torch

    from anomaly_export.graph import to_torchscript

    traced = to_torchscript(graph, graph.example())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated in favour of torch.export
        torch.jit.save(traced, str(path))


WRITERS: dict[str, Callable[[Any, Path, Metadata], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torchscript": write_torchscript,
}


def write(format: str, graph: DetectorGraph, path: Path, metadata: Metadata) -> None:
    """Graph, metadata and their digests in a new file."""
    WRITERS[format](graph, path, metadata)
    container = open_container(path)
    _put(container, path, replace(metadata, graph_sha256=container.digest()))


def rewrite(container: Container, path: Path, metadata: Metadata) -> None:
    """Replace the metadata of an exported file; its graph and the digest of that stay the same.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        with in_place(path, ELSEWHERE) as part:
            _put(container, part, metadata)
    except ValueError as error:
        raise RunError(f"cannot change {str(path)!r}: {error}. Export the run again.") from error


def recalibrate(path: Path, calibration: Calibration, verify: bool = True) -> None:
    """Give an exported file another calibration. No engine opens it.

    Raises:
        RunError: the file is missing, damaged, or cannot be written.
    """
    container, metadata = read_metadata(path, verify)
    rewrite(container, path, replace(metadata, calibration=calibration))


def _put(container: Container, path: Path, metadata: Metadata) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / path.name
        container.write(copy, metadata.to_json())
        copy.replace(path)


@contextmanager
def in_place(path: Path, advice: str = "Choose another file with --output.") -> Iterator[Path]:
    """A path of the same name in a folder beside the target; at the end, its files replace those at the target.

    If anything fails, existing files are kept. The main file is moved last: without it there is no detector.

    Raises:
        RunError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise RunError(f"cannot write {str(path)!r}: {error}. {advice}") from error
    try:
        yield folder / path.name
        parts = sorted(folder.iterdir(), key=lambda part: part.name == path.name)
        for part in parts:
            with part.open("r+b") as file:  # Windows cannot flush a file that is open only for reading
                os.fsync(file.fileno())
        if len(parts) > 1:  # an old main file must never stand beside new parts
            path.unlink(missing_ok=True)
        for part in parts:
            part.replace(path.with_name(part.name))
    except OSError as error:
        raise RunError(f"cannot write {str(path)!r}: {error}. Free some space if the disk is full. {advice}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
