"""``POST /v1/products/{product}/score``."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anomaly_serve.answers import Json, verdict_json
from anomaly_serve.bodies import body_of
from anomaly_serve.service import Service


def scoring_routes(service: Service) -> list[Route]:
    """Scoring of images."""

    async def score(request: Request) -> Response:
        product = request.path_params["product"]
        service.product(product)
        body = await body_of(request, service.options.max_bytes)
        name = request.query_params.get("name", "")
        scored = await asyncio.wrap_future(service.score(product, body, name=name))
        return Json(verdict_json(scored.judgement))

    return [Route("/v1/products/{product}/score", score, methods=["POST"])]
