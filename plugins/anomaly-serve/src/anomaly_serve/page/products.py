"""The first page: which products there are, and how each does today."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from anomaly_serve.page.render import render

if TYPE_CHECKING:
    from anomaly_serve.service import Service

_DAY = 24 * 3600


def routes(service: Service) -> list[BaseRoute]:
    """``/`` and the product's own root, which leads to *Inspect*."""
    return [
        Route("/", _products),
        Route("/products/{product}", _product),
    ]


def _products(request: Request) -> Response:
    store = request.app.state.service.store
    since = time.time() - _DAY
    cards = []
    for name in store.products():
        facts = {"images": store.count(name, since=since), "found": store.count(name, since=since, is_anomalous=True)}
        cards.append({"name": name, "active": store.active(name), "open": store.alarms(name, open_only=True), **facts})
    return render(request, "products.html", cards=cards)


def _product(request: Request) -> Response:
    return RedirectResponse(f"{request.url.path.rstrip('/')}/inspect", 303)
