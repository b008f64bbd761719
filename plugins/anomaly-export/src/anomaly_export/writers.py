"""Writes graph and metadata to a file, one function per format, and replaces the metadata of an existing file."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_core import RunError
from anomaly_export.metadata import KEY, Metadata
from anomaly_export.quiet import import_openvino

if TYPE_CHECKING:
    from anomaly_export.graph import DetectorGraph

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt"}
ENTRY = f"{KEY}.json"  # inside a TorchScript archive


def write_onnx(graph: DetectorGraph, path: Path, metadata: Metadata) -> None:
    """One ``.onnx`` file; the metadata is its metadata property ``anomaly``."""
    import onnx

    from anomaly_export.graph import to_onnx

    model = onnx.load_from_string(to_onnx(graph, graph.example(), metadata.outputs))
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    model.producer_name = "anomaly-export"
    path.write_bytes(model.SerializeToString())


def write_openvino(graph: DetectorGraph, path: Path, metadata: Metadata) -> None:
    """OpenVINO's two files, ``.xml`` with ``.bin`` beside it, in float32; the metadata is the runtime info ``anomaly``."""
    from anomaly_export.graph import to_onnx

    model = import_openvino().Core().read_model(to_onnx(graph, graph.example(), metadata.outputs), b"")
    model.set_rt_info(metadata.to_json(), [KEY])
    import_openvino().save_model(model, str(path), compress_to_fp16=False)


def write_torchscript(graph: DetectorGraph, path: Path, metadata: Metadata) -> None:
    """One ``.pt`` archive; the metadata is its extra file ``anomaly.json``."""
    import torch

    from anomaly_export.graph import to_torchscript

    traced = to_torchscript(graph, graph.example())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated in favour of torch.export
        torch.jit.save(traced, str(path), _extra_files={ENTRY: metadata.to_json()})


WRITERS: dict[str, Callable[[Any, Path, Metadata], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torchscript": write_torchscript,
}


def rewrite(path: Path, metadata: Metadata) -> None:
    """Replace the metadata of an exported file; its graph stays the same.

    Raises:
        RunError: the file cannot be written.
    """
    with in_place(path) as temporary:
        if path.suffix.lower() == ".onnx":
            import onnx

            model = onnx.load(str(path))
            onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
            temporary.write_bytes(model.SerializeToString())
        elif path.suffix.lower() == ".xml":
            tree = ElementTree.parse(path)
            entry = tree.find(f"./rt_info/{KEY}")
            if entry is None:
                raise RunError(f"{str(path)!r} was not written by `anomaly export`. Export again.")
            entry.set("value", metadata.to_json())
            tree.write(temporary, encoding="utf-8", xml_declaration=True)
        else:
            import torch

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                graph = torch.jit.load(str(path), map_location="cpu")
                torch.jit.save(graph, str(temporary), _extra_files={ENTRY: metadata.to_json()})


@contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """A path of the same name in a folder beside the target; at the end, its files replace those at the target.

    If anything fails, existing files are kept. The main file is moved last: without it there is no detector.

    Raises:
        RunError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise RunError(f"cannot write {str(path)!r}: {error}. Choose another file with --output.") from error
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
        raise RunError(f"cannot write {str(path)!r}: {error}. Free some space or choose another file.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
