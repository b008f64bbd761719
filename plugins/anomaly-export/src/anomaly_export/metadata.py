"""The metadata beside the graph in an exported file: validated in this one place, and signed by a digest. Torch-free."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import NotRequired, TypedDict

from anomaly_core import Calibration, Finite, ImageReader, InputSpec, RunError, fault, parse_json
from anomaly_export.containers import Container, open_container, plain

FORMAT = 3  # of the metadata; 2 did not say how image files are decoded

Precision = Literal["f32", "bf16", "int8"]
OUTPUTS = ("scores", "maps", "reconstruction")  # in this order; all but the first may be missing
SHA256 = "sha256"  # the key of the metadata's own digest
_MOST_PIXELS = 1 << 28  # of the graph's input

_Side = Annotated[int, Field(strict=True, ge=1, le=65536)]
_Sides = tuple[_Side, _Side]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class _Input(TypedDict):
    """An InputSpec."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # a TypedDict has no other place for it

    size: _Sides
    resize: Literal["stretch", "keep", "pad"]
    center_crop: _Sides | None
    mean: tuple[Finite, Finite, Finite]
    std: tuple[_Positive, _Positive, _Positive]


class _Data(TypedDict, total=False):
    """The options of the run's section ``data`` that a detector needs; others are not looked at."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    least_area: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    mm_per_px: _Positive | None


class _Config(TypedDict, total=False):
    """The run's config."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    data: _Data


class _Values(TypedDict):
    """What :meth:`Metadata.to_json` writes, without the digest."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    method: Annotated[str, Field(min_length=1)]
    input_spec: _Input
    calibration: dict[str, Any]  # validated by Calibration itself
    reader: dict[str, Any]  # validated by ImageReader itself
    outputs: tuple[Literal["scores", "maps", "reconstruction"], ...]
    categories: tuple[str, ...]
    config: _Config
    versions: dict[str, str]
    precision: Precision
    format: int
    graph_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    any_size: NotRequired[bool]


_VALUES = TypeAdapter(_Values)


@dataclass(frozen=True)
class Metadata:
    """Everything that a verdict needs besides the raw score, and the detector's origin.

    Attributes:
        method: name of the model.
        input_spec: size and geometry of the images; the graph normalises them itself.
        calibration: the threshold, and the scores for p-values.
        reader: how image files are decoded.
        outputs: names of the graph's outputs, in order: ``scores``, then ``maps`` and ``reconstruction`` if they exist.
        categories: the categories that it was fitted on.
        config: the run's config, as plain values.
        versions: the versions of the distributions that fitted it, and of those that exported it.
        precision: the engine's precision: ``f32``, (OpenVINO, if the CPU supports it) ``bf16``, or ``int8``: what the graph
            itself does not quantise is float32.
        format: the version of this metadata format.
        graph_sha256: the SHA-256 of everything else in the file, graph and weights.
        any_size: whether the graph resizes and crops by itself, for images of any size.
        intact: False if the metadata was read without verifying and is not as it was written; it is not stored.
    """

    method: str
    input_spec: InputSpec
    calibration: Calibration
    outputs: tuple[str, ...]
    reader: ImageReader = field(default_factory=ImageReader)
    categories: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    precision: Precision = "f32"
    format: int = FORMAT
    graph_sha256: str = ""
    any_size: bool = False
    intact: bool = True

    @property
    def regions(self) -> tuple[float, float | None]:
        """``data.least_area`` and ``data.mm_per_px`` of the run."""
        data = self.config.get("data", {})
        return data.get("least_area", 0.0), data.get("mm_per_px")

    def to_json(self) -> str:
        """The text stored in the file, with its digest; damaged metadata gets none that fits, and stays damaged."""
        values = {**dataclasses.asdict(self), "calibration": self.calibration.to_dict(), "reader": self.reader.to_dict()}
        del values["intact"]
        if not self.any_size:  # so that files for one size are those of earlier versions
            del values["any_size"]
        return json.dumps({**values, SHA256: _digest(values) if self.intact else "damaged"}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | None, path: Path, verify: bool = True) -> Metadata:
        """The metadata from the text of :meth:`to_json`.

        Args:
            text: the text; None if the file has none.
            path: the file, for messages.
            verify: whether the text must be as it was written, by its digest.

        Raises:
            RunError: the file was not written by ``anomaly export``, or by another version of it, or is damaged.
        """
        if not text:
            raise RunError(
                f"{str(path)!r} was not written by `anomaly export`: it says neither size nor threshold. Export again."
            )
        try:
            values = parse_json(text)
            _require_format(values.get("format"), path)
            digest = values.pop(SHA256, None)
            intact = digest == _digest(values)
            if verify and not intact:
                raise ValueError("it is not as it was written, by its SHA-256")
            return cls(**_checked(values), intact=intact)
        except ValueError as error:
            raise RunError(
                f"the metadata of {str(path)!r} cannot be used: {fault(error)}. The file is damaged: copy it again, or "
                "export the run again."
            ) from error

    def with_threshold(self, threshold: float) -> Metadata:
        """A copy with another threshold, marked as set by hand; ConfigError if it is NaN or infinite."""
        return dataclasses.replace(self, calibration=self.calibration.with_threshold(threshold))


def read_metadata(path: Path, verify: bool = True) -> tuple[Container, Metadata]:
    """An exported file, and what it says of itself. Nothing in it is executed, and no engine sees it.

    Args:
        path: the file.
        verify: whether metadata, graph and weights must be as they were written, by their SHA-256.

    Raises:
        RunError: the file is missing, no regular file, damaged, or not written by this version of ``anomaly export``.
    """
    try:
        container = open_container(path)
        metadata = Metadata.from_json(container.metadata, path, verify)
        if verify and container.digest() != metadata.graph_sha256:
            raise ValueError("graph or weights are not as they were written, by their SHA-256")
        if verify and getattr(container, "plain", None) not in (None, {}, plain(container.metadata or "")):
            raise ValueError("the threshold that other programs read in it is not that of its metadata")
    except FileNotFoundError as error:
        raise RunError(f"there is no file {str(path)!r}. Give one that `anomaly export` wrote.") from error
    except OSError as error:
        raise RunError(f"cannot read {str(path)!r}: {fault(error)}. Give a file that `anomaly export` wrote.") from error
    except ValueError as error:
        raise RunError(
            f"cannot use {str(path)!r}: {fault(error)}. The file is damaged: copy it again, or export the run again."
        ) from error
    return container, metadata


def _require_format(number: Any, path: Path) -> None:
    if type(number) is not int:
        raise ValueError("its format is no number")
    if number < FORMAT:
        raise RunError(
            f"{str(path)!r} was written by an earlier anomaly-export, in format {number}. This version "
            f"reads format {FORMAT}: export the run again."
        )
    if number > FORMAT:
        raise RunError(
            f"{str(path)!r} was written by a later anomaly-export, in format {number}, and this version reads format {FORMAT}. "
            "Update anomaly-export here, or export the run with this version."
        )


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of Metadata; ValueError says what is wrong with them."""
    checked: dict[str, Any] = dict(_VALUES.validate_python(values))
    spec = InputSpec(**checked["input_spec"])
    height, width = spec.size
    if height * width > _MOST_PIXELS:
        raise ValueError(f"input_spec.size: {height} x {width} pixels are more than {_MOST_PIXELS}")
    if spec.output_size[0] > height or spec.output_size[1] > width:
        raise ValueError("input_spec.center_crop: it is larger than the size")
    outputs = checked["outputs"]
    if outputs[:1] != OUTPUTS[:1] or list(outputs) != [name for name in OUTPUTS if name in outputs]:
        raise ValueError(f"outputs: {', '.join(outputs) or 'none'}; expected some of {', '.join(OUTPUTS)}, scores first")
    reader, calibration = ImageReader.from_dict(checked["reader"]), Calibration.from_dict(checked["calibration"])
    return {**checked, "input_spec": spec, "reader": reader, "calibration": calibration}


def _digest(values: dict[str, Any]) -> str:
    """The SHA-256 of the values as JSON in one form: keys sorted, no spaces, ASCII. ValueError if a number is infinite."""
    try:
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return hashlib.sha256(text.encode()).hexdigest()
