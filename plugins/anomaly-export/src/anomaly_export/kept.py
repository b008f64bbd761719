"""The graph that a finished run keeps in its folder, so that it predicts without torch: checked against the run's files.

``RUN/engine/model.onnx`` is the run's detector as ``anomaly export`` writes it, and ``RUN/engine/engine.json`` says what it was
made from (``int8.xml``, its ``.bin``, and ``int8.json``, if it was fitted in INT8): the SHA-256 of the run's config, weights
and reader, that of the graph, and the versions of the code. What does not fit the run as it is now is not used. The threshold
is always read from the run itself.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_core import (
    CONFIG,
    IMAGES,
    WEIGHTS,
    AnomalyError,
    DataError,
    RunConfig,
    RunError,
    RunFolder,
    inside,
    parse_json,
    read_untrusted,
    registry,
    write_whole,
)
from anomaly_export.detector import ExportedDetector
from anomaly_export.metadata import read_metadata

FOLDER, GRAPH, NOTE = "engine", "engine/model.onnx", "engine/engine.json"
INT8_GRAPH, INT8_NOTE = "engine/int8.xml", "engine/int8.json"  # with openvino_int8
FORMAT = 1  # of the note
DECIDING = (CONFIG, IMAGES, WEIGHTS)  # the run's files that the graph was made from
ADVICE = "Until then the run predicts with torch, which takes seconds to start."
_LARGEST_NOTE = 1 << 20  # bytes


def open_kept(run: RunFolder, config: RunConfig, engine: str, threads: int | None = None) -> ExportedDetector | None:
    """The detector of a finished run, with the threshold that it has now, from the graph that it keeps. Imports no torch.

    Args:
        run: the run.
        config: its config.
        engine: ``onnx``, ``openvino`` or ``openvino_int8``.
        threads: threads that the engine may use; None: one per core.

    Returns:
        None if it keeps none that was made from its files as they are; a damaged one is warned of.

    Raises:
        RunError: a file of the run itself is damaged.
    """
    quantised, (graph, _) = _is_quantised(engine), _files(engine)
    note = _note(run, config, engine)
    if note is None or "graph_sha256" not in note or (quantised and config.model.engine != engine):  # type: ignore[attr-defined]
        return None
    calibration, reader = run.calibration(), run.reader()
    run.require_recorded(WEIGHTS)  # a run that is damaged is refused, though its weights are not read here
    try:
        detector = ExportedDetector(inside(run.folder, graph), None if quantised else engine, threads)
        if detector.metadata.graph_sha256 != note["graph_sha256"]:
            raise RunError(f"{str(run.folder / graph)!r} is not the graph that was compared with the run.")
    except (OSError, RunError) as error:
        warnings.warn(f"the graph that the run keeps is not used, and torch computes instead: {error}", stacklevel=2)
        return None
    detector.metadata = replace(detector.metadata, calibration=calibration, reader=reader, config=config.to_dict())
    return detector


def keep(folder: str | Path, engine: str, images: int | Sequence[Any], *, anew: bool = False) -> str:
    """Leave the graph of a finished run in its folder, after comparing it with the run.

    Args:
        folder: the run's folder.
        engine: ``onnx``, ``openvino`` or ``openvino_int8``, which computes what is compared.
        images: as in :func:`~anomaly_export.export_run`.
        anew: even if there is one, or it is known that there can be none.

    Returns:
        What came of it, in words; empty if there is one already, or it is known that there can be none.

    Raises:
        RunError: the run is damaged, or its folder cannot be written.
        DataError: one of the images cannot be read.
    """
    run = RunFolder.open(folder)
    config = run.config()
    quantised, (graph, name) = _is_quantised(engine), _files(engine)
    if quantised and getattr(config.model, "engine", None) != engine:
        return ""  # it has no quantised network, and will say so
    note = _note(run, config, engine)
    if note is not None and not anew and ("refused" in note or _is_whole(run, graph, note)):
        return ""
    facts = _facts(run, config)
    _write(run, name, facts)  # says that nothing is known, and fails before much is computed in a folder that cannot be written
    try:
        from anomaly_export.export import STRICT, Disagreement, export_run

        compared = images if isinstance(images, int) else [*images, *_noise(run)]
        options: dict[str, Any] = {"images": compared, "tolerance": STRICT, "precision": "int8" if quantised else "f32"}
        format, computing = ("openvino", None) if quantised else ("onnx", engine)
        report = export_run(folder, format, run.folder / graph, engine=computing, **options)
    except AnomalyError as error:
        if isinstance(error, DataError | RunError) and not isinstance(error, Disagreement):
            raise
        _write(run, name, {**facts, "refused": str(error)})
        return f"the run in {str(folder)!r} will go on predicting with torch, which takes seconds to start: {error}"
    _, metadata = read_metadata(report.path)
    _write(run, name, {**facts, "graph_sha256": metadata.graph_sha256})
    return f"{report}. From now on, `anomaly predict` with this run needs no torch"


def _is_quantised(engine: str) -> bool:
    return bool(registry.engines[engine].spec.precision == "int8")


def _files(engine: str) -> tuple[str, str]:
    """The names of the graph that an engine opens, and of its note."""
    return (INT8_GRAPH, INT8_NOTE) if _is_quantised(engine) else (GRAPH, NOTE)


def _write(run: RunFolder, name: str, note: dict[str, Any]) -> None:
    write_whole(run.folder / name, json.dumps(note, indent=2).encode() + b"\n", ADVICE, run.folder)


def _note(run: RunFolder, config: RunConfig, engine: str) -> dict[str, Any] | None:
    """What is known of the run as it is now; None if nothing is."""
    try:
        note = parse_json(read_untrusted(inside(run.folder, _files(engine)[1]), _LARGEST_NOTE))
    except (OSError, ValueError):  # missing, above all; a damaged one is made anew
        return None
    return note if all(note.get(name) == value for name, value in _facts(run, config).items()) else None


def _facts(run: RunFolder, config: RunConfig) -> dict[str, Any]:
    """What the graph depends on: the run's files, and the versions of the code. That of ``onnx`` is there because what is
    refused for its absence is not refused for ever."""
    files = run.manifest().get("files", {})
    method, export = registry.models[config.model.name], registry.engines["onnx"]
    versions = {method.distribution: method.version, export.distribution: export.version, "onnx": _version("onnx")}
    return {"format": FORMAT, "run": {name: files.get(name) for name in DECIDING}, "versions": versions}


def _version(distribution: str) -> str:
    try:
        return distributions.version(distribution)
    except distributions.PackageNotFoundError:
        return "none"


def _is_whole(run: RunFolder, graph: str, note: dict[str, Any]) -> bool:
    try:
        return read_metadata(inside(run.folder, graph))[1].graph_sha256 == note.get("graph_sha256")
    except (OSError, RunError):
        return False


def _noise(run: RunFolder) -> list[Any]:
    """An image that is unlike any other, so that more than normal images is compared; none where a region is fixed."""
    if run.reader().roi:
        return []
    height, width = np.random.default_rng(1).integers(64, 128, 2)
    return [np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)]
