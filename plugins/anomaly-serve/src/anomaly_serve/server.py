"""The process that listens: uvicorn with limits of our own, so that nobody's connection costs anybody else's."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

MOST_CONNECTIONS = 400
MOST_HEADERS = 64 << 10  # bytes before a request's headers are complete
MOST_DRAINED = 64 << 20  # bytes that may follow a request that was answered before it came whole, so that the answer is read
HEADERS_WITHIN = 10.0  # seconds
BODY_WITHIN = 60.0
STUCK_AFTER = 60.0  # seconds in which a client reads nothing of its answer
DRAINS_WITHIN = 60  # seconds that the requests in work have when the service ends

_Protocol: Any = AutoHTTPProtocol  # with httptools if that is installed, which takes less of the processor
_Base: Any = object


class Guarding(_Base):  # type: ignore[misc]
    """Before one of uvicorn's protocols: closes a connection that sends headers or a body too slowly, or does not read its
    answer."""

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # when the request in work began
    _before = 0  # bytes that came without a request in work
    _unread = 0  # bytes of the answer, at the last look

    def connection_made(self, transport: Any) -> None:
        """Refuse more connections than there is room for."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._end("429 Too Many Requests", "busy", f"more than {MOST_CONNECTIONS} connections are open. Try again later.")
        else:
            self._watch(HEADERS_WITHIN)

    def data_received(self, data: bytes) -> None:
        """Count what comes outside of a request."""
        super().data_received(data)
        if self._works:
            if not self._since:
                self._since, self._before, self._unread = self.loop.time(), 0, 0
                self._watch(BODY_WITHIN)
            return
        self._before += len(data)
        most = MOST_DRAINED if self.cycle is not None and self.cycle.more_body else MOST_HEADERS
        if self._before > most:
            self._end("431 Request Header Fields Too Large", "too_large", f"the headers have more than {MOST_HEADERS} bytes.")
        elif self._timer is None:
            self._watch(HEADERS_WITHIN)

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn's own time for that holds."""
        self._since = 0.0
        self._unwatch()
        super().on_response_complete()
        if self._works:  # one that had come already
            self._since = self.loop.time()
            self._watch(BODY_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._unwatch()
        super().connection_lost(exc)

    @property
    def _works(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self, seconds: float) -> None:
        self._unwatch()
        self._timer = self.loop.call_later(seconds, self._look)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        unread = self.transport.get_write_buffer_size()
        if not self._works:
            self._end("408 Request Timeout", "too_slow", f"the headers did not come within {HEADERS_WITHIN:g} s.")
        elif self.cycle.more_body and self.loop.time() - self._since >= BODY_WITHIN:
            self._end("408 Request Timeout", "too_slow", f"the body did not come within {BODY_WITHIN:g} s.")
        elif unread and unread == self._unread:
            self.transport.abort()
        else:
            self._unread = unread
            self._watch(STUCK_AFTER)

    def _end(self, status: str, code: str, text: str) -> None:
        self._unwatch()
        if not self._works or not self.cycle.response_started:
            body = json.dumps({"error": {"code": code, "status": int(status[:3]), "message": text}}).encode()
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            )
            self.transport.write(f"{head}{'Retry-After: 1' if code == 'busy' else 'Vary: Origin'}\r\n\r\n".encode() + body)
        self.transport.close()


class GuardedProtocol(Guarding, _Protocol):  # type: ignore[misc]
    """A connection of this service."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; OSError if it cannot. Port 0: one that is free."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would let two processes listen
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(256)
    except OSError:
        opened.close()
        raise
    return opened


def server_for(app: ASGIApp) -> uvicorn.Server:
    """A server of one process; ``run(sockets=[listening(...)])`` serves until a signal, which it raises again at its end."""
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAINS_WITHIN,
        backlog=256,
    )
    return uvicorn.Server(config)
