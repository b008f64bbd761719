"""The web application: all doors over HTTP in one."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anomaly_core import AnomalyError
from anomaly_serve.access import Access, Tokens, login_routes
from anomaly_serve.answers import Json, refused
from anomaly_serve.faults import Busy
from anomaly_serve.monitoring import Metrics, monitoring_routes
from anomaly_serve.service import Service

PARTS = ("api", "v2", "page")  # of this package; each has ``routes(service)``
MOST_HELD = 512 << 20  # bytes of all bodies that are in memory at once
CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
_log = logging.getLogger("anomaly_core.serve")


def create_app(service: Service, tokens: Tokens | None = None, hosts: Iterable[str] | None = None) -> ASGIApp:
    """The application of a started service.

    Args:
        tokens: that open it; None or none: everybody who reaches it is ``local``.
        hosts: the names that it goes by (:class:`Access`); None: any.
    """
    metrics, tokens = Metrics(service), tokens or Tokens()
    parts = [import_module(f"anomaly_serve.{name}") for name in PARTS if find_spec(f"anomaly_serve.{name}")]
    routes: list[Any] = [*login_routes(tokens), *monitoring_routes(service, metrics)]
    for part in parts:
        routes += part.routes(service)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Access, tokens=tokens, hosts=hosts)],
        exception_handlers={AnomalyError: _refused, HTTPException: _no_route},
    )
    app.state.service = service
    app.router.redirect_slashes = False
    return Guard(app, metrics)


class Guard:
    """ASGI: whatever comes, an answer in the one form of errors; and no more bodies in memory than there is room for."""

    def __init__(self, app: ASGIApp, metrics: Metrics, most_held: int = MOST_HELD) -> None:
        self._app = app
        self._metrics = metrics
        self._most = most_held
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        if scope["type"] != "http":
            return
        own, status = 0, 0

        async def counted() -> Message:
            nonlocal own
            message = await receive()
            if size := len(message.get("body", b"")):
                own += size
                self._held += size
                if self._held > self._most:
                    raise Busy("the images that were sent fill the memory for them. Send it again later.", retry_after=2)
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.answered(status)
            await send(message)

        try:
            await self._app(scope, counted, sending)
        except ClientDisconnect:
            pass  # nobody is there to answer
        except Exception as error:
            if not isinstance(error, AnomalyError):
                _log.exception("a request for %s failed", scope["path"][:200])
            if not status:
                await refused(error)(scope, receive, sending)
        finally:
            self._held -= own


async def _refused(_: Request, error: Exception) -> Response:
    return refused(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, path = error.status_code, request.url.path[:80]
    messages = {
        404: f"there is nothing at {path!r}. /docs lists what there is.",
        405: f"{path!r} does not take {request.method[:20]}. /docs lists what it takes.",
    }
    facts = {"code": CODES.get(status, "refused"), "status": status, "message": messages.get(status, str(error.detail))}
    return Json({"error": facts}, status, dict(error.headers or {}))
