"""A model repository, as Triton and KServe read one: ``NAME/config.pbtxt`` beside ``NAME/1/model.onnx`` and so on."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anomaly_core import ConfigError, RunError, RunFolder, read_untrusted, write_whole
from anomaly_export.export import Report, export_run
from anomaly_export.metadata import Metadata, read_metadata

CONFIG, MODEL = "config.pbtxt", "model.onnx"
MOST_IMAGES = 8  # of a batch: what an exported detector computes at once by itself
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEAD = """name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {most}
{tensors}dynamic_batching {{ }}
version_policy: {{ latest: {{ num_versions: 2 }} }}  # the newest, and the one before, to go back to
instance_group [ {{ kind: KIND_CPU }} ]  # it was compared with its run on a CPU
"""
_THRESHOLD = 'parameters: {{ key: "threshold_{version}" value: {{ string_value: "{threshold}" }} }}\n'


@dataclass(frozen=True)
class Added:
    """A version in a repository, and how well it agrees with its run."""

    name: str
    version: int
    report: Report

    def __str__(self) -> str:
        return (
            f"{self.report}\n{self.name}, version {self.version}: tritonserver --model-repository={self.report.path.parents[2]}"
        )


def export_triton(
    folder: str | Path, repository: str | Path, *, name: str | None = None, version: int | None = None, **options: Any
) -> Added:
    """Write the detector of a finished run into a model repository, as a new version of a model.

    Args:
        folder: the run's folder.
        repository: the repository's folder, which is made unless it is there.
        name: of the model; None: the run's category if it has one, else the name of its method.
        version: from 1; None: the one after the greatest that is there.
        options: of :func:`~anomaly_export.export.export_run`: ``threshold``, ``images``, ``verify``, ``tolerance``,
            ``any_size``.

    Raises:
        ConfigError: a name or number that cannot be, a version that is there, or a model of another shape.
        RunError, AnomalyError: as :func:`~anomaly_export.export.export_run`; the repository is as it was before.
    """
    name = _own_name(folder) if name is None else name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: a model's name stands in addresses. Give letters, digits, dots, hyphens and underscores, at "
            "most 64, the first a letter or a digit."
        )
    place = Path(repository) / name
    version = _free(place, version)
    try:
        place.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=place))
    except OSError as error:
        raise RunError(f"cannot write {str(place)!r}: {error}. Choose another folder with --output.") from error
    try:
        report = export_run(folder, "onnx", part / MODEL, **options)
        metadata = read_metadata(part / MODEL)[1]
        config = _config(place / CONFIG, name, version, metadata)
        write_whole(place / CONFIG, config.encode())
        part.chmod(0o755)  # temporary folders are the user's alone, and a server is often another
        part.replace(place / str(version))  # last: a server may watch, and takes what is there whole
    except OSError as error:
        raise RunError(f"cannot write {str(place)!r}: {error}. Free some space, or choose another folder.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not any(place.iterdir()):
            place.rmdir()
    return Added(name, version, replace(report, path=place / str(version) / MODEL))


def _own_name(folder: str | Path) -> str:
    config = RunFolder.open(folder, False).config()
    categories = config.data.category or ()
    return categories[0] if len(categories) == 1 else config.model.name


def _free(place: Path, version: int | None) -> int:
    """The number to write."""
    there = [int(path.name) for path in place.glob("[1-9]*") if path.name.isdecimal()] if place.is_dir() else []
    if version is None:
        return max(there, default=0) + 1
    if version < 1:
        raise ConfigError(f"--version {version}: versions are numbers from 1.")
    if version in there:
        raise ConfigError(
            f"{str(place)!r} has a version {version}, which servers may be using, and versions are not replaced. Leave "
            f"--version out for {max(there) + 1}, or remove its folder first."
        )
    return version


def _config(path: Path, name: str, version: int, metadata: Metadata) -> str:
    """The text of ``config.pbtxt`` with this version in it; of one that is there, what was changed by hand stays."""
    tensors = _tensors(metadata)
    text = _HEAD.format(name=name, most=MOST_IMAGES, tensors=tensors)
    if path.exists():
        text = read_untrusted(path).decode("utf-8", "replace")
        if tensors not in text:
            raise ConfigError(
                f"{str(path)!r} describes another model: all versions of a model have the same inputs and outputs, and this "
                "run's size or outputs differ. Give another --name."
            )
        text = text if text.endswith("\n") else f"{text}\n"
    threshold = metadata.calibration.threshold
    return text if threshold is None else text + _THRESHOLD.format(version=version, threshold=repr(float(threshold)))


def _tensors(metadata: Metadata) -> str:
    """The inputs and outputs; the batch, in front of each, is left out. A scalar is a vector of one number there."""
    height, width = metadata.input_spec.output_size
    sides = [-1, -1] if metadata.any_size else [height, width]
    shapes = {"maps": [1, height, width], "reconstruction": [3, height, width]}
    text = _tensor("input", "images", "TYPE_UINT8", [*sides, 3])
    for output in metadata.outputs:
        text += _tensor(
            "output", output, "TYPE_FP32", shapes.get(output, [1]), "" if output in shapes else " reshape: { shape: [ ] }"
        )
    return text


def _tensor(kind: str, name: str, datatype: str, dims: Sequence[int], more: str = "") -> str:
    return f"{kind} [ {{ name: {json.dumps(name)} data_type: {datatype} dims: {json.dumps(dims)}{more} }} ]\n"
