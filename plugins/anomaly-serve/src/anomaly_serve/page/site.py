"""The page as an application of its own, mounted at ``/page``: its routes, its headers, its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anomaly_core import AnomalyError
from anomaly_serve.answers import refusal
from anomaly_serve.page import history, inspecting, login, products, setting, teach
from anomaly_serve.page.render import render
from anomaly_serve.page.static_files import static

if TYPE_CHECKING:
    from anomaly_serve.service import Service

_PARTS = (products, login, inspecting, setting, history, teach)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with no-referrer, a form's own origin would be hidden from us as well
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


def routes(service: Service) -> list[BaseRoute]:
    """``/`` and ``/page``. Within, every request finds the service as ``request.app.state.service``."""
    inner: list[BaseRoute] = [Route("/static/{name}", static)]
    for part in _PARTS:
        inner += part.routes(service)
    page = Starlette(
        routes=inner,
        middleware=[Middleware(_Headers)],
        exception_handlers={HTTPException: _refused, AnomalyError: _failed, Exception: _broken},
    )
    page.state.service = service
    return [Route("/", _to_page), Mount("/page", page)]


async def _to_page(request: Request) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/page/", 303)


class _Headers:
    """What every answer of the page tells the browser: run and fetch nothing that is not ours, and be in nobody's frame."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                own = [pair for pair in _HEADERS if pair[0] not in given]
                own += [] if b"cache-control" in given else [(b"cache-control", b"no-store")]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        await self._app(scope, receive, sending)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _error(request, error.status_code, error.detail)


async def _failed(request: Request, error: Exception) -> Response:
    facts = refusal(error)["error"]
    return await _error(request, facts["status"], facts["message"])


async def _broken(request: Request, error: Exception) -> Response:  # which is raised again, and logged, by who mounts us
    return await _error(request, 500, "This failed for a reason that was not foreseen; the service's log has the details.")


async def _error(request: Request, status: int, text: str) -> Response:
    root = request.scope.get("root_path", "")
    if request.scope["path"].removeprefix(root).startswith("/api/"):
        return JSONResponse({"error": {"status": status, "message": text}}, status)
    return await run_in_threadpool(render, request, "error.html", status=status, text=text, code=status)
