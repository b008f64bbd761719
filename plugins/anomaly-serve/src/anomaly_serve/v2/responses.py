"""An inference response of the Open Inference Protocol v2: outputs as JSON, or as bytes behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_serve.v2.refused import Refused

DTYPES = {"BOOL": "?", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}


@dataclass(frozen=True)
class Output:
    """A tensor of the answer.

    Attributes:
        values: an array of the datatype's dtype, or a list of texts for BYTES.
        is_binary: whether it is sent as bytes behind the JSON.
    """

    name: str
    datatype: str
    values: NDArray[Any] | Sequence[str]
    is_binary: bool


def write_response(head: dict[str, Any], outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where bytes follow.

    Raises:
        Refused: an output has a value that JSON has not, NaN or infinite.
    """
    described, parts = [], []
    for output in outputs:
        tensor: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(np.shape(output.values))}
        if output.is_binary:
            parts.append(_bytes(output))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = _data(output)
        described.append(tensor)
    text = json.dumps({**head, "outputs": described}, allow_nan=False).encode()
    return b"".join([text, *parts]), len(text) if parts else None


def _bytes(output: Output) -> bytes:
    if isinstance(output.values, np.ndarray):
        return output.values.astype(DTYPES[output.datatype], copy=False).tobytes()
    elements = [text.encode() for text in output.values]
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def _data(output: Output) -> list[Any]:
    if not isinstance(output.values, np.ndarray):
        return list(output.values)
    if output.values.dtype.kind == "f" and not np.isfinite(output.values).all():
        raise Refused(
            f"the output {output.name!r} holds NaN or Infinity, which JSON has not: ask for it with binary_data true."
        )
    values: list[Any] = output.values.ravel().tolist()
    return values
