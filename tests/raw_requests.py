"""Requests as bytes, sound and broken, for tests that send them over a socket: each is known by its number and a seed."""

from __future__ import annotations

import gzip
import json
import random
import socket
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

KINDS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")


def files() -> list[bytes]:
    """An image of 48 x 32 pixels in each format."""
    found = []
    for kind in KINDS:
        buffer = BytesIO()
        Image.effect_noise((48, 32), 40).convert("RGB").save(buffer, kind)
        found.append(buffer.getvalue())
    return found


FILES = files()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole request; underscores in the names of headers are hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def tensors(file: bytes, *, binary: bool) -> bytes:
    """An inference request of the Open Inference Protocol."""
    path, width, height = "/v2/models/bolt/infer", 6, 4
    if binary:
        inputs = [
            {"name": "encoded", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(file) + 4}},
            {"name": "name", "shape": [1], "datatype": "BYTES", "data": ["a"]},
        ]
        head = json.dumps({"id": "1", "inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        body = head + len(file).to_bytes(4, "little") + file
        return request("POST", path, body, Inference_Header_Content_Length=str(len(head)))
    data = list(file[: 3 * width * height].ljust(3 * width * height, b"\0"))
    tensor = {"name": "image", "shape": [1, height, width, 3], "datatype": "UINT8", "data": data}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "score"}, {"name": "map"}]}).encode()
    return request("POST", path, body)


def form(draw: random.Random) -> bytes:
    """Several images in a form."""
    boundary = f"b{draw.randrange(10**6)}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{i}.png"\r\n\r\n'.encode()
        + draw.choice(FILES)
        + b"\r\n"
        for i in range(draw.randint(1, 3))
    ]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return request("POST", "/v1/products/bolt/score", body, Content_Type=f"multipart/form-data; boundary={boundary}")


def sound(draw: random.Random) -> bytes:
    """A request that is answered with 200, drawn of all kinds."""
    file = draw.choice(FILES)
    packed = gzip.compress(tensors(file, binary=False).partition(b"\r\n\r\n")[2], 1)
    return draw.choice(
        [
            request("POST", "/v1/products/bolt/score?name=x", file, Content_Type="image/png"),
            request("POST", "/v1/products/bolt/score?map=npy&keep=false", file),
            request("POST", "/v1/products/bolt/map", file),
            form(draw),
            tensors(file, binary=True),
            tensors(file, binary=False),
            request("POST", "/v2/models/bolt/infer", packed, Content_Encoding="gzip"),
            request("POST", "/v2/repository/index"),
            request(
                "GET", draw.choice(["/v2", "/v2/models/bolt/versions/1", "/healthz", "/readyz", "/metrics", "/v1/products"])
            ),
        ]
    )


def broken(draw: random.Random) -> bytes:
    """A sound request with one to four faults, in its first line, its headers, its body or the image in it."""
    content = bytearray(sound(draw))
    for _ in range(draw.randint(1, 4)):
        end = content.find(b"\r\n\r\n")
        place = draw.randrange(max(1, len(content)))
        in_head = draw.randrange(max(1, end)) if end > 0 else place
        match draw.randrange(12):
            case 0:
                del content[place:]
            case 1 if content:
                content[min(place, len(content) - 1)] = draw.randrange(256)
            case 2 if end > 0:
                content[in_head] = draw.choice(b"\0\r\n :;%/?#\xff\x7f0")
            case 3:
                content[place:place] = draw.randbytes(draw.randint(1, 40))
            case 4:
                del content[place : place + draw.randint(1, 60)]
            case 5 | 6 | 7:
                name = draw.choice(
                    [b"Content-Length", b"Inference-Header-Content-Length", b"Content-Type", b"Content-Encoding"]
                )
                content = _with_header(content, name, draw.choice(VALUES))
            case 8:
                content = _with_header(
                    content, b"X-" + b"a" * draw.choice([1, 1000, 70_000]), b"b" * draw.choice([1, 9000, 70_000])
                )
            case 9:
                content = bytearray(content.replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nX", 1))
            case 10 if end > 0:
                number = draw.choice([b"-1", b"0", b"99999999999999999999", b"1e9", b"null", b"[]", b'"x"', b"4294967295"])
                digits = [i for i in range(end + 4, min(len(content), end + 600)) if 48 <= content[i] <= 57]
                if digits:
                    at = draw.choice(digits)
                    content[at : at + 1] = number
            case _:
                content += sound(draw)
    return bytes(content)


VALUES = (
    *(b"", b"0", b"1", b"-1", b"+5", b"5, 6", b"99999999999999999999", b"0x10", b"\xb2", b"1e3", b"100000", b"33554433"),
    *(b"gzip", b"deflate", b"br", b"gzip, gzip", b"identity", b"application/json", b"image/png", b"text/html; charset=\xff"),
    *(b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=b1", b"application/x-npy"),
)


def _with_header(content: bytearray, name: bytes, value: bytes) -> bytearray:
    """Replaced where it is there, else added."""
    head, separator, body = bytes(content).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(name.lower() + b":")]
    return bytearray(b"\r\n".join([*lines, name + b": " + value]) + separator + body)


@dataclass(frozen=True)
class Answer:
    """What came back: the statuses, in order; none if the connection was closed or nothing came."""

    statuses: list[int]
    content: bytes


def exchange(address: tuple[str, int], content: bytes, patience: float = 0.15) -> Answer:
    """Send bytes and read what comes back, until an answer is whole or nothing has come for so many seconds."""
    received = bytearray()
    with socket.create_connection(address, 10) as connection:
        try:
            connection.sendall(content)
            connection.settimeout(patience)
            while not _is_whole(received) and (part := connection.recv(1 << 16)):
                received += part
        except (TimeoutError, ConnectionError, BrokenPipeError):
            pass
    starts = [line for line in bytes(received).split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return Answer([int(line[9:12]) for line in starts], bytes(received))


def _is_whole(received: bytearray) -> bool:
    head, separator, body = bytes(received).partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
    return bool(separator) and length.isdigit() and len(body) >= int(length)
