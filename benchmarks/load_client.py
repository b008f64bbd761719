"""Clients of a service over HTTP that is kept alive: how many answers came, and after how long. Used by ``service_load.py``.

A process of its own, and as cheap as Python allows: whole requests that were made beforehand, and of an answer no more is read
than its status and length. Each line of standard input, a JSON object, asks for a measurement; a line of JSON answers it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


class Client(asyncio.Protocol):
    """One connection that is kept: the next image is sent when the verdict on the one before has come."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._start = time.perf_counter()
        self._transport.write(self._load.next())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._load.answered(int(head[9:12]), time.perf_counter() - self._start)
        self._buffer.clear()
        if self._load.goes_on():
            self._send()
        else:
            self._transport.close()
            self._load.ended()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._load.failed(error)


class Load:
    """So many clients for so many seconds, or so many requests."""

    def __init__(self, requests: list[bytes], clients: int, seconds: float, most: int) -> None:
        self._requests = requests
        self._left = clients
        self._end = time.perf_counter() + seconds
        self._most = most
        self._sent = 0
        self.took: list[float] = []
        self.statuses: dict[int, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes:
        self._sent += 1
        return self._requests[self._sent % len(self._requests)]

    def answered(self, status: int, took: float) -> None:
        self.took.append(took)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def goes_on(self) -> bool:
        return time.perf_counter() < self._end and self._sent < self._most

    def ended(self) -> None:
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def load(port: int, requests: list[bytes], clients: int, seconds: float, most: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    work = Load(requests, clients, seconds, most)
    before, start = time.process_time(), time.perf_counter()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(work), "127.0.0.1", port)
    await work.done
    wall = time.perf_counter() - start
    took = np.array(work.took) * 1000
    return {
        "rate": len(took) / wall,
        "p50": float(np.percentile(took, 50)),
        "p99": float(np.percentile(took, 99)),
        "statuses": {str(status): count for status, count in work.statuses.items()},
        "cpu": (time.process_time() - before) / wall,
        "count": len(took),
        "wall": wall,
    }


def request_of(file: bytes, door: str) -> bytes:
    """A whole request for a verdict, by the service's own interface or by the Open Inference Protocol."""
    if door == "v1":
        path, more, body = "/v1/products/part/score", "Content-Type: image/jpeg", file
    else:
        size = {"binary_data_size": len(file) + 4}
        tensor = {"name": "encoded", "shape": [1], "datatype": "BYTES", "parameters": size}
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in ("score", "is_anomalous", "id")]
        text = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
        path, more = "/v2/models/part/infer", f"Inference-Header-Content-Length: {len(text)}"
        body = text + len(file).to_bytes(4, "little") + file
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    """Arguments: a folder of JPEG files, and the door."""
    folder, door = sys.argv[1:]
    requests = [request_of(path.read_bytes(), door) for path in sorted(Path(folder).glob("*.jpg"))]
    for line in sys.stdin:
        asked = json.loads(line)
        done = asyncio.run(load(asked["port"], requests, asked["clients"], asked["seconds"], asked["most"]))
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
