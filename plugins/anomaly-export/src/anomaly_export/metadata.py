"""The metadata beside the graph in an exported file. Torch-free."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from anomaly_core import Calibration, InputSpec, RunError

KEY = "anomaly"  # the metadata's key in every format
FORMAT = 1

Precision = Literal["f32", "bf16"]


@dataclass(frozen=True)
class Metadata:
    """Everything that a verdict needs besides the raw score, and the detector's origin.

    Attributes:
        method: name of the model.
        input_spec: size and geometry of the images; the graph normalises them itself.
        calibration: the threshold, and the scores for p-values.
        outputs: names of the graph's outputs, in order: ``scores``, then ``maps`` and ``reconstruction`` if they exist.
        categories: the categories that it was fitted on.
        config: the run's config, as plain values.
        versions: the versions of the distributions that fitted it, and of those that exported it.
        precision: the engine's precision, ``f32`` or (OpenVINO, if the CPU supports it) ``bf16``.
        format: the version of this metadata format.
    """

    method: str
    input_spec: InputSpec
    calibration: Calibration
    outputs: tuple[str, ...]
    categories: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    precision: Precision = "f32"
    format: int = FORMAT

    def to_json(self) -> str:
        """The text stored in the file."""
        return json.dumps({**dataclasses.asdict(self), "calibration": self.calibration.to_dict()}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | None, path: Path) -> Metadata:
        """The metadata from the text of :meth:`to_json`; RunError if the file was not written by ``anomaly export``."""
        if not text:
            raise RunError(
                f"{str(path)!r} was not written by `anomaly export`: it says neither size nor threshold. Export again."
            )
        try:
            values = json.loads(text)
            spec: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in values["input_spec"].items()
            }
            return cls(
                **{
                    **values,
                    "input_spec": InputSpec(**spec),
                    "calibration": Calibration.from_dict(values["calibration"]),
                    "outputs": tuple(values["outputs"]),
                    "categories": tuple(values["categories"]),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"what {str(path)!r} says of itself cannot be read ({type(error).__name__}: {error}): it is damaged, or of "
                "another version. Export the run again."
            ) from error

    def with_threshold(self, threshold: float) -> Metadata:
        """A copy with another threshold, marked as set by hand."""
        changed = dataclasses.replace(self.calibration, threshold=threshold, source="set by hand", warning=None)
        return dataclasses.replace(self, calibration=changed)
