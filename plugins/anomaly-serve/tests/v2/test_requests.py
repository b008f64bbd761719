"""Requests of the Open Inference Protocol v2, read strictly: what a body claims is compared with what it brought."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest

from anomaly_serve.faults import ServiceError
from anomaly_serve.v2.models import Limits, images_of
from anomaly_serve.v2.refused import MOST_JSON, Refused
from anomaly_serve.v2.requests import read_request
from anomaly_serve.v2.unpacking import unpacked

LIMITS = Limits(most_pixels=10_000, most_images=4)
PIXELS = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)


def as_json(data: Any, shape: Any = (2, 3, 4, 3), datatype: str = "UINT8", name: str = "image", **more: Any) -> bytes:
    return json.dumps({"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}], **more}).encode()


def as_bytes(content: bytes, shape: Any = (2, 3, 4, 3), size: Any = None, **more: Any) -> tuple[bytes, str]:
    parameters = {"binary_data_size": len(content) if size is None else size, **more}
    tensor = {"name": "image", "shape": shape, "datatype": "UINT8", "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + content, str(len(head))


@pytest.mark.parametrize("form", ["bytes", "flat", "nested"])
def test_pixels_come_as_bytes_or_as_json_flat_or_nested(form: str) -> None:
    body: bytes
    length: str | None
    body, length = as_bytes(PIXELS.tobytes())
    if form != "bytes":
        body, length = as_json(PIXELS.tolist() if form == "nested" else PIXELS.ravel().tolist()), None
    images = images_of(read_request(body, length), LIMITS)
    assert [one.name for one in images] == ["", ""]
    np.testing.assert_array_equal([one.image for one in images], PIXELS)


def test_bgr_is_turned_to_rgb_whether_the_input_or_the_request_says_so() -> None:
    for body, length in (
        as_bytes(PIXELS.tobytes(), colour="BGR"),
        (as_json(PIXELS.tolist(), parameters={"colour": "BGR"}), None),
    ):
        images = images_of(read_request(body, length), LIMITS)
        np.testing.assert_array_equal([one.image for one in images], PIXELS[..., ::-1])


def test_files_are_base64_in_json() -> None:
    body = as_json([base64.b64encode(b"\xff\xd8").decode()], [1], "BYTES", "encoded")
    assert images_of(read_request(body, None), LIMITS)[0].image == b"\xff\xd8"
    with pytest.raises(Refused, match="no base64"):
        images_of(read_request(as_json(["ÿØ"], [1], "BYTES", "encoded"), None), LIMITS)


WRONG_JSON = {
    "no object": b"[]",
    "no text": b"\xff\xfe\xfd",
    "cut off": as_json([0])[:-3],
    "deep": b'{"inputs": ' + b"[" * 100_000,
    "without inputs": b"{}",
    "no inputs": b'{"inputs": []}',
    "unknown key": as_json([0], ouputs=[]),
    "negative": as_json([0], [-1, 1, 1, 3]),
    "fraction": as_json([0], [1.5, 1, 1, 3]),
    "truth": as_json([0], [True, 1, 1, 3]),
    "huge": as_json([0], [2**63, 2**63, 2**63, 3]),
    "overflows to the right size": as_json([0, 0, 0], [1, 2**62, 4, 3]),
    "empty": as_json([], [0, 1, 1, 3]),
    "rank": as_json([0, 0, 0], [1, 1, 3]),
    "many sides": as_json([0], [1] * 1000),
    "channels": as_json([0], [1, 1, 1, 1]),
    "too few": as_json([0, 0], [1, 1, 1, 3]),
    "above 255": as_json([0, 0, 256], [1, 1, 1, 3]),
    "below 0": as_json([0, 0, -1], [1, 1, 1, 3]),
    "of floats": as_json([0, 0, 1.0], [1, 1, 1, 3]),
    "of texts": as_json(["0", "0", "x" * 1000], [1, 1, 1, 3]),
    "of lists of other lengths": as_json([[[[0, 0, 0], [0, 0]]]], [1, 1, 2, 3]),
    "of lists too deep": as_json([[[[[0], [0], [0]]]]], [1, 1, 1, 3]),
    "of a list among numbers": as_json([0, [0], 0], [1, 1, 1, 3]),
    "no list": as_json("AAAA", [1, 1, 1, 3]),
    "other type": as_json([0, 0, 0], [1, 1, 1, 3], "FP32"),
    "other input": as_json([0, 0, 0], [1, 1, 1, 3], name="images"),
    "unknown parameter": as_json([0, 0, 0], [1, 1, 1, 3], parameters={"priority": 1}),
    "other colour": as_json([0, 0, 0], [1, 1, 1, 3], parameters={"colour": ["BGR"]}),
    "same output twice": as_json([0, 0, 0], [1, 1, 1, 3], outputs=[{"name": "score"}, {"name": "score"}]),
    "output's parameter": as_json([0, 0, 0], [1, 1, 1, 3], outputs=[{"name": "score", "parameters": {"classification": 1}}]),
    "output's flag": as_json([0, 0, 0], [1, 1, 1, 3], outputs=[{"name": "score", "parameters": {"binary_data": "yes"}}]),
    "files of pixels": as_json([0], [1], "BYTES", "encoded"),
    "too many": as_json([0] * 15, [5, 1, 1, 3]),
    "too large": as_json([0] * 30_003, [1, 1, 10_001, 3]),
    "names without images": as_json(["a"], [1], "BYTES", "name"),
    "bytes without the header": as_bytes(PIXELS.tobytes())[0],
}


@pytest.mark.parametrize("name", WRONG_JSON)
def test_what_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ServiceError) as caught:
        images_of(read_request(WRONG_JSON[name], None), LIMITS)
    assert caught.value.status == (413 if name in ("too many", "too large", "overflows to the right size") else 400)
    assert 20 < len(str(caught.value)) < 400


@pytest.mark.parametrize("length", ["", "0", "-1", "1e3", "٣", "9" * 30, "999"])
def test_the_length_of_the_json_is_that_of_a_part_of_the_body(length: str) -> None:
    with pytest.raises(Refused, match="Inference-Header-Content-Length"):
        read_request(as_bytes(PIXELS.tobytes())[0], length)


@pytest.mark.parametrize("size", [-1, 71, 73, 2**70, "72", 72.0, True, [72]])
def test_the_bytes_of_an_input_are_all_there_and_no_others(size: Any) -> None:
    with pytest.raises(Refused):
        images_of(read_request(*as_bytes(PIXELS.tobytes(), size=size)), LIMITS)


@pytest.mark.parametrize("content", [b"\1", b"\1\0\0\0", b"\2\0\0\0a", b"\xff\xff\xff\xffa", b"\1\0\0\0a\0\0\0\0", b""])
def test_elements_of_bytes_end_where_the_input_ends(content: bytes) -> None:
    head = json.dumps(
        {"inputs": [{"name": "encoded", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(content)}}]}
    ).encode()
    with pytest.raises(Refused):
        images_of(read_request(head + content, str(len(head))), LIMITS)


def test_names_are_texts_that_can_be_printed() -> None:
    def named(*names: str) -> bytes:
        values = json.loads(as_json(PIXELS.tolist()))
        values["inputs"].append({"name": "name", "shape": [len(names)], "datatype": "BYTES", "data": names})
        return json.dumps(values).encode()

    assert [one.name for one in images_of(read_request(named("a", "ü"), None), LIMITS)] == ["a", "ü"]
    for names in (["a"], ["a", "b", "c"], ["a", "\0"], ["a", "\ud800"], ["a", "x" * 201]):
        with pytest.raises(Refused):
            images_of(read_request(named(*names), None), LIMITS)


def test_more_json_than_is_read_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Refused, match="binary_data_size") as caught:
        read_request(b" " * (MOST_JSON + 1), None)
    assert caught.value.status == 413


def test_bodies_are_unpacked_no_further_than_allowed() -> None:
    text = b"a" * 1000
    gzip = zlib.compressobj(wbits=31)
    packed = {"deflate": zlib.compress(text), "gzip": gzip.compress(text) + gzip.flush(), "": text, "identity": text}
    for encoding, body in packed.items():
        assert unpacked(body, encoding, 1000) == text
    for encoding in ("gzip", "deflate"):
        for damaged in (packed[encoding][:-1], packed[encoding] + b"a", b"", text):
            with pytest.raises(Refused):
                unpacked(damaged, encoding, 1000)
        with pytest.raises(Refused) as caught:
            unpacked(packed[encoding], encoding, 999)
        assert caught.value.status == 413
    with pytest.raises(Refused) as caught:
        unpacked(text, "br", 1000)
    assert caught.value.status == 415
