"""A version of a product as a model of the protocol: its inputs, its outputs, and the images in a request."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_serve.faults import Unusable
from anomaly_serve.v2.refused import Refused
from anomaly_serve.v2.requests import Request, Tensor
from anomaly_serve.v2.responses import Output

INPUTS: tuple[dict[str, Any], ...] = (
    {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    {"name": "encoded", "datatype": "BYTES", "shape": [-1]},
    {"name": "name", "datatype": "BYTES", "shape": [-1]},
)
_ALWAYS = {"score": "FP64", "id": "BYTES"}
_JUDGED = {"is_anomalous": "BOOL", "p_value": "FP64", "threshold": "FP64"}
_MAPPED = {"map": "FP32"}
_REGIONS = {"regions": "BYTES"}
OUTPUTS = _ALWAYS | _JUDGED | _MAPPED | _REGIONS


@dataclass(frozen=True)
class Sent:
    """An image of a request: the bytes of a file, or uint8 (H, W, 3) RGB; and what the sender calls it."""

    image: bytes | NDArray[np.uint8]
    name: str


@dataclass(frozen=True)
class Limits:
    """What a request may bring: pixels of an image, and images."""

    most_pixels: int
    most_images: int


def metadata(product: str, versions: Sequence[int]) -> dict[str, Any]:
    """The protocol's description of a model."""
    shapes = {name: [-1, -1, -1] if name == "map" else [-1] for name in OUTPUTS}
    return {
        "name": product,
        "versions": [str(number) for number in versions],
        "platform": "anomaly",
        "inputs": list(INPUTS),
        "outputs": [{"name": name, "datatype": datatype, "shape": shapes[name]} for name, datatype in OUTPUTS.items()],
    }


def images_of(request: Request, limits: Limits) -> list[Sent]:
    """The images of a request, none of them decoded.

    Raises:
        Refused, Unusable: inputs, shapes or parameters are not those of :func:`metadata`; the message says which.
    """
    for name in request.inputs:
        if name not in {known["name"] for known in INPUTS}:
            raise Refused(f"there is no input {name!r}. Send `image` or `encoded`, and `name` if the images have names.")
    given = [request.inputs[name] for name in ("image", "encoded") if name in request.inputs]
    if len(given) != 1:
        raise Refused(
            "send one of the inputs `image`, UINT8 [-1, -1, -1, 3], and `encoded`, BYTES [-1], the bytes of image files."
        )
    colour = _colour(request, given[0])
    images: Sequence[Any] = _pixels(given[0], colour, limits) if given[0].name == "image" else _files(given[0], limits)
    names = _names(request.inputs["name"], len(images)) if "name" in request.inputs else [""] * len(images)
    return [Sent(image, name) for image, name in zip(images, names, strict=True)]


def _colour(request: Request, tensor: Tensor) -> str:
    """The order of colours of ``image``; Refused for another parameter, which would be ignored."""
    parameters = {**request.parameters, **tensor.parameters}
    for other in request.inputs.values():
        parameters.update(dict.fromkeys(other.parameters) if other is not tensor else {})
    colour = parameters.pop("colour", "RGB")
    if parameters:
        raise Refused(
            f"the parameter {min(parameters)!r} is not known here and would be ignored: leave it out. `colour` is known, of "
            "`image`: RGB or BGR."
        )
    if colour not in ("RGB", "BGR"):
        raise Refused(f"the parameter 'colour' is {json.dumps(colour)[:40]}: give RGB, or BGR as OpenCV has it.")
    if colour == "BGR" and tensor.name == "encoded":
        raise Refused("the parameter 'colour' is for `image`: a file says itself what its colours are. Leave it out.")
    return str(colour)


def _pixels(tensor: Tensor, colour: str, limits: Limits) -> list[NDArray[np.uint8]]:
    tensor.expect("UINT8", "[-1, -1, -1, 3]", 4)
    count, height, width, channels = tensor.shape
    if channels != 3:
        raise Refused(f"`image` has {channels} channels in its shape {list(tensor.shape)}: send three, RGB, in the last place.")
    _require_count(count, limits)
    if height * width > limits.most_pixels:
        raise Refused(
            f"`image` has {width} x {height} pixels, and this service takes {limits.most_pixels:,}. Send smaller ones.", 413
        )
    pixels = tensor.uint8()
    if colour == "BGR":
        pixels = pixels[..., ::-1]
    return [np.ascontiguousarray(image) for image in pixels]


def _files(tensor: Tensor, limits: Limits) -> list[bytes]:
    tensor.expect("BYTES", "[-1]", 1)
    _require_count(tensor.shape[0], limits)
    return [_file(element, number) for number, element in enumerate(tensor.strings())]


def _file(element: bytes | str, number: int) -> bytes:
    """JSON holds texts alone, and no image file is one: base64 there."""
    if isinstance(element, bytes):
        return element
    try:
        return base64.b64decode(element, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            f"element {number} of `encoded` is no base64, which JSON needs; or send bytes, with binary_data_size."
        ) from None


def _names(tensor: Tensor, count: int) -> list[str]:
    tensor.expect("BYTES", "[-1]", 1)
    if tensor.shape[0] != count:
        raise Refused(f"`name` has {tensor.shape[0]} elements for {count} images: send one for each.")
    return [_name(element) for element in tensor.strings()]


def _name(element: bytes | str) -> str:
    try:
        name = element.decode() if isinstance(element, bytes) else element
    except UnicodeDecodeError:
        raise Refused("an element of `name` is not UTF-8.") from None
    if len(name) > 200 or not name.isprintable():
        raise Refused("an element of `name` has more than 200 characters, or some that cannot be printed.")
    return name


def _require_count(count: int, limits: Limits) -> None:
    if count > limits.most_images:
        raise Refused(f"the request has {count} images, and this service takes {limits.most_images} at once: send fewer.", 413)


def require_own(request: Request, product: str, number: int | None) -> None:
    """Before anything is scored: Refused where the body names another model than the address, or an unknown output."""
    version = "" if number is None else str(number)
    if request.model_name not in (None, "", product) or (request.model_version or version) != version:
        raise Refused("the body names another model_name or model_version than the address: leave them out of the body.")
    for name in request.outputs or ():
        if name not in OUTPUTS:
            raise Refused(f"there is no output {name!r}. Choose of: {', '.join(OUTPUTS)}.")


def wanted(request: Request, offered: Sequence[str]) -> dict[str, bool]:
    """name -> whether as bytes, of the outputs to answer; Unusable for one that is not offered."""
    if request.outputs is None:
        return dict.fromkeys(offered, request.binary)
    for name in request.outputs:
        if name not in offered:
            why = "threshold" if name in _JUDGED else "map" if name in _MAPPED else "threshold of maps"
            raise Unusable(f"this detector has no {why}, and so no output {name!r}: leave it out.")
    return request.outputs


def outputs_of(scored: Sequence[Any], request: Request) -> list[Output]:
    """The outputs that were asked for, or all there are.

    Args:
        scored: for each image, ``judgement`` and ``map``.

    Raises:
        Refused, Unusable: one was asked for that does not exist.
    """
    judgements = [one.judgement for one in scored]
    maps = [one.map for one in scored]
    columns: dict[str, Any] = {"score": np.array([one.score for one in judgements], dtype=np.float64)}
    columns["id"] = [one.id for one in judgements]
    if all(one.is_anomalous is not None for one in judgements):
        columns["is_anomalous"] = np.array([one.is_anomalous for one in judgements], dtype=bool)
    for name in ("p_value", "threshold"):
        values = [getattr(one, name) for one in judgements]
        if all(value is not None for value in values):
            columns[name] = np.array(values, dtype=np.float64)
    if all(one is not None and one.shape == maps[0].shape for one in maps):
        columns["map"] = np.stack(maps).astype(np.float32, copy=False)
    if all(one.regions is not None for one in judgements):
        columns["regions"] = [json.dumps(list(one.regions)) for one in judgements]
    columns = {name: columns[name] for name in OUTPUTS if name in columns}
    return [Output(name, OUTPUTS[name], columns[name], binary) for name, binary in wanted(request, list(columns)).items()]
