"""What a run's files hold: the types, ranges and format number that are checked wherever one is read back."""

from __future__ import annotations

import json
import platform
from itertools import islice
from typing import Annotated, Any, Literal, NoReturn

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import Required, TypedDict

from anomaly_core.discovery import registry
from anomaly_core.errors import AnomalyError
from anomaly_core.installed import distributions

LIBRARIES = ("pillow", "torch", "torchvision", "timm", "numpy")  # whose versions the manifest records
FORMAT = 1  # of a run's folder; raised when older readers would misread it
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(TypedDict, total=False):
    """The facts of ``manifest.json`` that are read back; a run may add others. ``files``: the SHA-256 of what it wrote."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # a TypedDict has no other place for it

    format: Required[int]
    status: Required[Literal["running", "complete", "interrupted", "failed"]]
    category: str
    error: str
    files: dict[str, Digest]
    started: Seconds
    finished: Seconds
    fit_seconds: Seconds
    test_images_per_second: Seconds
    peak_memory_mb: Seconds
    seed: Count
    data: dict[str, Count | str]
    dropped: Count
    excluded: Count
    evaluates: str
    versions: dict[str, str]
    warnings: list[str]


_MANIFEST = TypeAdapter(Manifest)


def checked_manifest(values: Any) -> dict[str, Any]:
    """The manifest of a folder of this format; ValueError says what is wrong with it."""
    number = values.get("format") if isinstance(values, dict) else None
    if number != FORMAT or isinstance(number, bool):
        raise ValueError(f"it is of format {number!r}, and this version reads format {FORMAT}")
    return dict(_MANIFEST.validate_python(values))


def parse_json(text: str | bytes) -> dict[str, Any]:
    """The object in a JSON file; ValueError if it is none, or holds a bare NaN or Infinity."""
    try:
        values = json.loads(text, parse_constant=_refused)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it holds no object")
    return values


def fault(error: Exception) -> str:
    """An error of reading a file in one line; of a validation's errors the first, with the place in the file."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    words = " ".join(str(error).split()).rstrip(".")
    speaks = words and isinstance(error, ValueError | OSError | AnomalyError)
    return words if speaks else f"{type(error).__name__}: {words}".rstrip(": ")


def _refused(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number in JSON")


def versions() -> dict[str, str]:
    """Of Python, the libraries that decide figures, and our distributions, as a manifest records them."""
    libraries = {one.name.lower(): one.version for name in LIBRARIES for one in islice(distributions(name), 1)}
    ours = {component.distribution: component.version for component in registry.components()}
    return {"python": platform.python_version(), **libraries, **ours}
