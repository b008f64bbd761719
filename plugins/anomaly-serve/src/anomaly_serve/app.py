"""The web application: all doors over HTTP in one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from anomaly_core import AnomalyError
from anomaly_serve.answers import refused
from anomaly_serve.service import Service

PARTS = ("api", "v2", "page")  # of this package; each has ``routes(service)``


def create_app(service: Service) -> Starlette:
    """The application of a started service."""
    parts = [import_module(f"anomaly_serve.{name}") for name in PARTS if find_spec(f"anomaly_serve.{name}")]
    routes: list[Any] = [route for part in parts for route in part.routes(service)]
    app = Starlette(routes=routes, exception_handlers={AnomalyError: _refused})
    app.state.service = service
    return app


async def _refused(_: Request, error: Exception) -> Response:
    return refused(error)
