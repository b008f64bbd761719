"""export_run: writes a finished run's detector to a file, after comparing it with the run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomaly_core import (
    AnomalyError,
    ConfigError,
    PluginError,
    Prediction,
    RunConfig,
    RunError,
    RunFolder,
    build_data,
    registry,
)
from anomaly_export.any_size import AnySize
from anomaly_export.detector import Array, ExportedDetector
from anomaly_export.graph import DetectorGraph
from anomaly_export.metadata import Metadata, Precision
from anomaly_export.sessions import openvino_has_bfloat16
from anomaly_export.writers import SUFFIXES, WRITERS, in_place, write
from anomaly_predict import RunDetector, load_run

TOLERANCES: dict[Precision, float] = {"f32": 1e-3, "bf16": 0.1, "int8": 1e-3}  # bfloat16 has two to three correct digits
STRICT = 1e-5  # of scores and maps that stand for those of the run itself
ENGINES: dict[str, Precision] = {"openvino_bf16": "bf16", "openvino_int8": "int8"}  # what a run was fitted in; else float32
NAMES: dict[Precision, str] = {"f32": "float32", "bf16": "bfloat16", "int8": "INT8"}


class Disagreement(RunError):
    """What was written does not compute what the run does."""


@dataclass(frozen=True)
class Report:
    """The exported file, and how well it agrees with the run.

    Attributes:
        path: the file; with OpenVINO, its ``.bin`` is beside it.
        format: ``onnx``, ``openvino`` or ``torchscript``.
        precision: the engine's precision, ``f32``, ``bf16`` or ``int8``.
        images: the number of compared images; ``source`` says which.
        score_difference, map_difference: the greatest difference, relative to the greatest absolute value of the run's scores
            (maps); 0 for a method without maps.
        flipped: the number of verdicts that differ.
        tolerance: what both differences had to stay below.
    """

    path: Path
    format: str
    precision: Precision
    images: int
    source: str
    score_difference: float
    map_difference: float
    flipped: int
    tolerance: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.format}, computed in {NAMES[self.precision]}, agrees with the run on {self.images} "
            f"{self.source}: greatest relative difference {self.score_difference:.1e} in scores, {self.map_difference:.1e} in "
            f"maps (must be < {self.tolerance:g}); {self.flipped} verdicts differ"
        )


def export_run(
    folder: str | Path,
    format: str = "onnx",
    output: str | Path | None = None,
    *,
    precision: Precision | None = None,
    threshold: float | None = None,
    images: int | Sequence[Any] = 32,
    verify: bool = True,
    tolerance: float | None = None,
    engine: str | None = None,
    any_size: bool = False,
) -> Report:
    """Write the detector of a finished run: normalisation, network, search, map and raw score in one graph.

    Args:
        folder: the run's folder.
        format: ``onnx``, ``openvino`` or ``torchscript``.
        output: the file; None: ``model.onnx``, ``model.xml`` or ``model.pt`` in the run's folder.
        precision: ``f32``, or ``bf16`` for ``openvino``: faster if the CPU has bfloat16, with two to three correct digits.
            ``int8``, for ``openvino`` and a run that was fitted in it: its own quantised network, the rest in float32. None:
            the precision of the run's engine, if the format supports it.
        threshold: replaces the run's; it is stored beside the graph, and the graph's score stays raw.
        images: what to compare: a number of the run's own test images, or images in any form that a detector takes.
        verify: whether the run's files must be as the run wrote them, by their SHA-256.
        tolerance: what the relative differences must stay below; None: 1e-3, and 0.1 for ``bf16``.
        engine: what computes the file's side of the comparison; None: the format's own.
        any_size: whether the graph takes images of any size and resizes and crops them itself; they are compared as they are.

    Raises:
        RunError: the run is not complete or damaged, the file cannot be written, or it does not agree with the run. In that
            case no file is written, and an existing one is kept.
        PluginError: the method's distribution or the format's library is not installed.
        AnomalyError: the method cannot be exported in this format; the message says why.
    """
    if format not in WRITERS:
        raise ConfigError(f"there is no format {format!r}. Choose one of: {', '.join(WRITERS)}.")
    if precision in ("bf16", "int8") and format != "openvino":
        raise ConfigError(
            f"--precision {precision}: {format} computes in float32. Use --format openvino, or leave --precision out."
        )
    computing = engine or format
    registry.engines[computing].require_library()
    if precision == "bf16" and not openvino_has_bfloat16():
        warnings.warn("--precision bf16: this CPU has no bfloat16, and the comparison is made in float32.", stacklevel=2)
    finished = RunFolder.open(folder, verify)
    fitted_with = getattr(finished.config().model, "engine", None)  # methods without an extractor have none
    fitted_in = ENGINES.get(str(fitted_with), "f32")
    if precision == "int8" and fitted_in != "int8":
        raise ConfigError(
            "--precision int8 is for a run that was fitted in it, with --set model.engine=openvino_int8: its network is "
            "quantised by its training images. Fit anew, or leave --precision out."
        )
    precision = precision or (fitted_in if format == "openvino" else "f32")
    if fitted_in == "int8" and precision != "int8":
        warnings.warn(
            f"the run was fitted in INT8, and {format} computes in {NAMES[precision]} here: other scores, under a "
            "threshold that was set with those of INT8. `--format openvino` writes the network that the run has; to export "
            "another, fit with another model.engine.",
            stacklevel=2,
        )
    own = fitted_with is None or precision == "int8"
    run = load_run(folder, device="cpu", engine=None if own else "torch", verify=verify)
    path = Path(output) if output is not None else Path(folder) / f"model{SUFFIXES[format]}"
    if path.suffix.lower() != SUFFIXES[format]:
        raise ConfigError(f"--output {path.name}: a file of the format {format} ends in {SUFFIXES[format]}.")
    if getattr(run.config.data, "tile", None):
        raise AnomalyError(
            "this run looks at tiles of large images (data.tile), and a graph sees one input of fixed size: it cannot be "
            "exported as one. Fit without data.tile, or use `anomaly predict` with the run's folder."
        )
    if any_size and precision == "int8":
        raise ConfigError("--any-size: a quantised graph takes one size. Leave --any-size out, or add --precision f32.")
    run.modeler.prepare_export()
    placing = AnySize(run.modeler.input_spec, run.reader) if any_size else None
    graph = DetectorGraph(run.modeler, placing).eval()
    description = replace(_describe(run, graph, finished, precision), any_size=any_size)
    if threshold is not None:
        description = description.with_threshold(threshold)
    samples, source = (
        comparison_images(run.config, images, run.modeler.input_spec.size) if isinstance(images, int) else (images, "images")
    )
    with in_place(path) as temporary:
        try:
            write(format, graph, temporary, description)
        except ImportError as error:
            raise PluginError(
                f'writing {format} needs a module that cannot be imported: {error}. pip install "anomaly-export[train]", and '
                f"{registry.engines[format].spec.install}"
            ) from error
        except (OSError, AnomalyError):
            raise
        except Exception as error:  # the exporters raise many kinds of exceptions
            raise _refused(run.config.model.name, format, error) from error
        reference = load_run(folder, device="cpu", verify=verify) if precision == fitted_in == "bf16" else run
        with warnings.catch_warnings():  # of images that the run's log has told of, and of random ones
            warnings.filterwarnings("ignore", ".* has (another|other|values|several|transparent|unreadable) ", UserWarning)
            limit = TOLERANCES[precision] if tolerance is None else tolerance
            report = _compare(run_scores(reference, samples), samples, source, temporary, format, limit, computing)
    return replace(report, path=path)


def _describe(run: RunDetector, graph: DetectorGraph, finished: RunFolder, precision: Precision) -> Metadata:
    versions = {
        **finished.manifest().get("versions", {}),
        "exported-by": f"anomaly-export {distributions.version('anomaly-export')}",
        "exported-with": f"torch {torch.__version__}",
    }
    return Metadata(
        method=run.config.model.name,
        input_spec=run.modeler.input_spec,
        calibration=run.calibration,
        reader=run.reader,
        outputs=tuple(graph.outputs()),
        categories=tuple(run.config.data.category or ()),
        config=finished.config().to_dict(),  # the run's own config, whatever engine runs the graph
        versions=versions,
        precision=precision,
    )


def comparison_images(config: RunConfig, count: int, size: tuple[int, int]) -> tuple[list[Any], str]:
    """Some of the run's own test images, evenly spaced, and their description; random images if those are missing."""
    try:
        module = build_data(config)
        samples = [sample.path for category in module.chosen_categories() for sample in module.test_samples(category)]
        there = [path for path in samples if path.is_file()]
    except AnomalyError:
        there = []
    if there:
        step = max(1, len(there) // count)
        return list(there[::step][:count]), "test images"
    draw = np.random.default_rng(0)
    return [
        draw.integers(0, 256, (size[0] + 8 * i, size[1] + 4 * i, 3), dtype=np.uint8) for i in range(min(count, 8))
    ], "random images (the run's own are not there any more)"


def run_scores(run: RunDetector, samples: Sequence[Any]) -> list[Prediction[Array]]:
    """The run's own predictions for images, with its own geometry in torch."""
    return [one for _, prediction in run.stream(samples, batch_size=8) for one in prediction.apart()]


def _compare(
    expected: list[Prediction[Array]],
    samples: Sequence[Any],
    source: str,
    path: Path,
    format: str,
    tolerance: float,
    engine: str,
) -> Report:
    """Score the samples with the file, then close it: Windows cannot rename an open file."""
    written = ExportedDetector(path, engine)
    if written.metadata.any_size:
        scored = [written.score_native(sample) for sample in samples]
    else:
        scored = written.score([written.place(sample) for sample in samples])
    pairs = list(zip(scored, expected, strict=True))
    scores = relative_difference([one.score for one in scored], [one.score for one in expected])
    maps = [(one.maps, other.maps) for one, other in pairs if one.maps is not None and other.maps is not None]
    in_maps = relative_difference([one for one, _ in maps], [other for _, other in maps]) if maps else 0.0
    verdict = written.calibration.is_anomalous
    flipped = sum(verdict(one.score) != verdict(other.score) for one, other in pairs)
    precision = written.metadata.precision
    if not (scores < tolerance and in_maps < tolerance):
        raise Disagreement(
            f"what was written as {format} does not agree with the run on {len(expected)} {source}: greatest relative "
            f"difference {scores:.1e} in scores and {in_maps:.1e} in maps, and it must be below {tolerance:g}. No "
            "file was left; choose another --format or --precision."
        )
    return Report(path, format, precision, len(expected), source, scores, in_maps, flipped, tolerance)


def relative_difference(values: Any, expected: Any) -> float:
    """The greatest absolute difference, divided by the greatest absolute value expected; NaN counts as infinite."""
    values, expected = np.asarray(values, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    scale = max(float(np.abs(expected).max()), 1e-30)
    difference = float(np.abs(values - expected).max()) / scale
    return difference if np.isfinite(difference) else float("inf")


def _refused(method: str, format: str, error: Exception) -> AnomalyError:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    reason = next((line for line in lines if "nsupported" in line or "rror" in line), lines[-1] if lines else "")[:400]
    others = ", ".join(name for name in WRITERS if name != format)
    return AnomalyError(
        f"{method} cannot be exported as {format}: {type(error).__name__}: {reason.strip()} Try --format {others}."
    )
