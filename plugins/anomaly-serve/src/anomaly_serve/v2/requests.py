"""An inference request of the Open Inference Protocol v2 (inference_rest.md) with the binary tensor data extension, checked.

What a request claims, such as a shape, is compared with the bytes that it brought before anything of that size is made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import Required, TypedDict

from anomaly_core import fault, parse_json
from anomaly_serve.v2.refused import MOST_JSON, Refused

_FORBID = ConfigDict(extra="forbid")
_Name = Annotated[str, Field(strict=True, max_length=200)]
_Dimension = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
_Parameters = dict[_Name, Any]


class _Input(TypedDict, total=False):
    __pydantic_config__ = _FORBID  # type: ignore[misc]  # a TypedDict has no other place for it

    name: Required[_Name]
    shape: Required[Annotated[tuple[_Dimension, ...], Field(max_length=8)]]
    datatype: Required[_Name]
    parameters: _Parameters
    data: Any


class _Output(TypedDict, total=False):
    __pydantic_config__ = _FORBID  # type: ignore[misc]

    name: Required[_Name]
    parameters: _Parameters


class _Values(TypedDict, total=False):
    __pydantic_config__ = _FORBID  # type: ignore[misc]

    id: _Name
    model_name: _Name
    model_version: _Name | None
    parameters: _Parameters
    inputs: Required[Annotated[list[_Input], Field(min_length=1, max_length=8)]]
    outputs: Annotated[list[_Output], Field(max_length=32)]


_VALUES = TypeAdapter(_Values)


@dataclass(frozen=True)
class Tensor:
    """An input as it came: ``data`` holds JSON's values, or the bytes of the extension."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any]
    data: list[Any] | memoryview

    def expect(self, datatype: str, shape: str, rank: int) -> None:
        """Refused if datatype or number of dimensions are not these, or if it holds nothing."""
        if self.datatype != datatype or len(self.shape) != rank:
            raise Refused(
                f"the input {self.name!r} is {self.datatype} {list(self.shape)}, and must be {datatype} {shape}, where -1 is "
                "any number."
            )
        if 0 in self.shape:
            raise Refused(f"the input {self.name!r} of shape {list(self.shape)} is empty.")

    def uint8(self) -> NDArray[np.uint8]:
        """UINT8 values in their shape, without a copy where they came as bytes."""
        if isinstance(self.data, memoryview):
            content: bytes | memoryview = self.data
        else:
            try:
                content = bytes(_flat(self.data, self.shape, self.name))
            except (TypeError, ValueError):
                raise Refused(f"the input {self.name!r} must hold whole numbers from 0 to 255.") from None
        if len(content) != prod(self.shape):
            raise Refused(
                f"the input {self.name!r} brought {len(content)} values, and its shape {list(self.shape)} has "
                f"{prod(self.shape)}."
            )
        return np.frombuffer(content, dtype=np.uint8).reshape(self.shape)

    def strings(self) -> list[bytes | str]:
        """The elements of BYTES, one-dimensional: ``str`` where they came as JSON, ``bytes`` where they came as such."""
        values: list[Any] = self.data if isinstance(self.data, list) else _elements(self.data, self.name)
        if len(values) != self.shape[0]:
            raise Refused(f"the input {self.name!r} brought {len(values)} elements, and its shape is {list(self.shape)}.")
        if not all(isinstance(value, bytes | str) for value in values):
            raise Refused(f"the input {self.name!r} is BYTES: in JSON, each element is a string.")
        return values


@dataclass(frozen=True)
class Request:
    """An inference request.

    Attributes:
        id: the sender's, which the answer repeats; None without one.
        model_name, model_version: if the body names them, too.
        inputs: by their names.
        outputs: name -> whether it is wanted as bytes; None: all there are, as ``binary`` says.
        binary: whether outputs are wanted as bytes that do not say it themselves.
    """

    id: str | None
    model_name: str | None
    model_version: str | None
    parameters: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, bool] | None
    binary: bool


def read_request(body: bytes, header_length: str | None) -> Request:
    """The request in a body.

    Args:
        body: not compressed.
        header_length: the header ``Inference-Header-Content-Length``: how many bytes of the body are JSON; None: all.

    Raises:
        Refused: with the status 400, or 413 for more JSON than is read.
    """
    length = len(body) if header_length is None else _length(header_length, len(body))
    if length > MOST_JSON:
        raise Refused(
            f"the request has {length:,} bytes of JSON, and at most {MOST_JSON:,} are read. Send tensors as bytes, with "
            "binary_data_size and the header Inference-Header-Content-Length.",
            413,
        )
    try:
        values = _VALUES.validate_python(parse_json(body[:length]))
    except (ValueError, ValidationError) as error:
        raise Refused(f"the request cannot be read: {fault(error)}.") from None
    parameters = values.get("parameters", {})
    binary = _flag(parameters, "binary_data_output", False)
    return Request(
        id=values.get("id"),
        model_name=values.get("model_name"),
        model_version=values.get("model_version"),
        parameters={name: value for name, value in parameters.items() if name != "binary_data_output"},
        inputs=_inputs(values["inputs"], memoryview(body)[length:], header_length is not None),
        outputs=_outputs(values["outputs"], binary) if "outputs" in values else None,
        binary=binary,
    )


def _length(header: str, most: int) -> int:
    number = int(header) if header.isascii() and header.isdigit() and len(header) < 16 else -1
    if not 0 < number <= most:
        raise Refused(
            f"Inference-Header-Content-Length is {header[:40]!r}: it must be the number of bytes of JSON at the start of the "
            f"body, which has {most}."
        )
    return number


def _inputs(values: list[_Input], rest: memoryview, is_binary: bool) -> dict[str, Tensor]:
    """Each input with its own part of the bytes that follow the JSON."""
    inputs: dict[str, Tensor] = {}
    for value in values:
        name, parameters = value["name"], dict(value.get("parameters", {}))
        data = value.get("data")
        if name in inputs:
            raise Refused(f"there are two inputs {name!r}.")
        if (size := parameters.pop("binary_data_size", None)) is not None:
            if not isinstance(size, int) or isinstance(size, bool) or not is_binary or not 0 <= size <= len(rest):
                raise Refused(
                    f"binary_data_size of the input {name!r} is {str(size)[:40]}, and {len(rest)} bytes are left of those "
                    "behind the JSON, whose length Inference-Header-Content-Length must say."
                )
            if data is not None:
                raise Refused(f"the input {name!r} brings both data and binary_data_size: leave one out.")
            data, rest = rest[:size], rest[size:]
        elif not isinstance(data, list):
            raise Refused(f"the input {name!r} brings neither data, a list, nor binary_data_size.")
        inputs[name] = Tensor(name, value["datatype"], value["shape"], parameters, data)
    if len(rest):
        raise Refused(
            f"{len(rest)} bytes behind the JSON belong to no input: let binary_data_size of each say how many it has."
        )
    return inputs


def _outputs(values: list[_Output], binary: bool) -> dict[str, bool]:
    outputs: dict[str, bool] = {}
    for value in values:
        name, parameters = value["name"], value.get("parameters", {})
        if name in outputs:
            raise Refused(f"the output {name!r} is asked for twice.")
        if others := set(parameters) - {"binary_data"}:
            raise Refused(f"the output {name!r} has the parameter {min(others)!r}, which this server does not know.")
        outputs[name] = _flag(parameters, "binary_data", binary)
    return outputs


def _flag(parameters: dict[str, Any], name: str, otherwise: bool) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise Refused(f"the parameter {name!r} is {json.dumps(value)[:40]}: give true or false.")
    return value


def _flat(data: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    """The values of a list that is flat or nested as the shape is."""
    for length in shape[1:] if data and isinstance(data[0], list) else ():
        if not all(isinstance(part, list) and len(part) == length for part in data):
            raise Refused(f"the lists in the input {name!r} are not nested as its shape {list(shape)} says.")
        data = list(chain.from_iterable(data))
    return data


def _elements(data: memoryview, name: str) -> list[bytes]:
    """The elements of BYTES: each is its length, 4 bytes, little-endian, and then as many bytes."""
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + length > len(data):
            raise Refused(f"the input {name!r} ends within its element {len(elements)}, which has {length} bytes.")
        elements.append(bytes(data[at + 4 : at + 4 + length]))
        at += 4 + length
    return elements
