"""The form for the token, where the service asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from anomaly_serve.page.render import render

if TYPE_CHECKING:
    from anomaly_serve.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """``/login``."""
    return [Route("/login", _form)]


def _form(request: Request) -> Response:
    return render(request, "login.html", wrong="wrong" in request.query_params)
