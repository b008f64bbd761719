"""The process's edge, over real sockets: slow clients, too many, and what is no HTTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from anomaly_serve import server
from anomaly_serve.testing import RunningService, as_file, grey_image, running_service

SPOT = as_file(grey_image(spot=True))


class WithoutHttptools(server.Guarding, H11Protocol):  # type: ignore[misc]
    """What is used where httptools is not installed."""


@pytest.fixture(params=["usual", "h11"])
def running(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningService]:
    if request.param == "h11":
        monkeypatch.setattr(server, "GuardedProtocol", WithoutHttptools)
    for name, value in (("HEADERS_WITHIN", 0.4), ("BODY_WITHIN", 0.4), ("STUCK_AFTER", 0.4), ("MOST_CONNECTIONS", 5)):
        monkeypatch.setattr(server, name, value)
    with running_service(tmp_path) as running:
        yield running


def opened(running: RunningService) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


HEAD = b"POST /v1/products/bolt/score HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "begun",
    [b"", HEAD, HEAD + b"Content-Type: image/png\r\nContent-Length: 5000\r\n\r\nabc"],
    ids=["nothing", "half of the headers", "half of the body"],
)
def test_a_slow_client_is_let_go_while_others_are_served(running: RunningService, begun: bytes) -> None:
    with closing(opened(running)) as slow:
        slow.sendall(begun)
        assert httpx.post(f"{running.url}/v1/products/bolt/score", content=SPOT).status_code == 200
        start = time.monotonic()
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - start < 5


def test_a_connection_is_kept_and_watched_again(running: RunningService) -> None:
    whole = HEAD + b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(SPOT) + SPOT
    with closing(opened(running)) as client:
        for _ in range(3):
            client.sendall(whole)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(HEAD)
        assert b"408 " in read_all(client)


def test_more_connections_than_there_is_room_for(running: RunningService) -> None:
    held = [opened(running) for _ in range(5)]
    try:
        time.sleep(0.1)
        with closing(opened(running)) as one:
            assert read_all(one).startswith(b"HTTP/1.1 429 ")
    finally:
        for connection in held:
            connection.close()
    time.sleep(0.2)
    assert httpx.get(f"{running.url}/healthz").status_code == 200


def test_headers_without_end(running: RunningService) -> None:
    with closing(opened(running)) as client:
        try:
            for _ in range(40):
                client.sendall(b"X-More: " + b"a" * 8000 + b"\r\n" if _ else HEAD)
        except OSError:
            pass
        answer = read_all(client)
        assert answer == b"" or answer[9:12] in (b"431", b"400")
    assert httpx.get(f"{running.url}/healthz").status_code == 200


def test_bytes_that_are_no_http(running: RunningService) -> None:
    for junk in (b"\x16\x03\x01\x02\x00", b"\0" * 100, b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with closing(opened(running)) as client:
            client.sendall(junk)
            client.shutdown(socket.SHUT_WR)
            assert not read_all(client).startswith((b"HTTP/1.1 2", b"HTTP/1.1 5"))
    assert httpx.get(f"{running.url}/healthz").status_code == 200
