"""The addresses of the Open Inference Protocol v2 (kserve/open-inference-protocol, inference_rest.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from anomaly_core import VERSION, AnomalyError, printable
from anomaly_serve.answers import Json, refusal
from anomaly_serve.bodies import body_of
from anomaly_serve.faults import NotFound, ServiceError
from anomaly_serve.v2 import models
from anomaly_serve.v2.refused import Refused
from anomaly_serve.v2.requests import Request as InferRequest
from anomaly_serve.v2.requests import read_request
from anomaly_serve.v2.responses import write_response
from anomaly_serve.v2.unpacking import unpacked

if TYPE_CHECKING:
    from anomaly_serve.products import Product
    from anomaly_serve.service import Service

HEADER_LENGTH = "Inference-Header-Content-Length"
_AT_ONCE = 64 << 10  # bytes of JSON that are read in the event loop; more would hold up the others
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_Endpoint = Callable[[Request], Awaitable[Response]]


class Protocol:
    """The protocol's endpoints for a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turn = asyncio.Semaphore(1)  # of long JSON: a body of 16 MB becomes 100 MB of numbers

    async def server(self, request: Request) -> Response:
        """``GET /v2``."""
        return Json({"name": "anomaly", "version": VERSION, "extensions": ["binary_tensor_data"]})

    async def live(self, request: Request) -> Response:
        """``GET /v2/health/live``."""
        return Json({"live": True})

    async def ready(self, request: Request) -> Response:
        """``GET /v2/health/ready``: not where the service ends, or the active version of a product could not be loaded."""
        ready = self._service.runs and not any(product.fault for product in list(self._service.products.values()))
        return Json({"ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """``GET /v2/models/{m}``."""
        product, number = self._product(request), _number(request)
        numbers = await run_in_threadpool(_numbers, product, number)
        return Json(models.metadata(product.name, numbers))

    async def model_ready(self, request: Request) -> Response:
        """``GET /v2/models/{m}/ready``: a version is ready that is loaded; others are loaded when they are asked for."""
        product, number = self._product(request), _number(request)
        await run_in_threadpool(_numbers, product, number)
        ready = product.loaded(number) is not None
        return Json({"name": product.name, "ready": ready}, 200 if ready else 503)

    async def index(self, request: Request) -> Response:
        """``POST /v2/repository/index`` of Triton's model repository extension: all products, with their versions."""
        body = await body_of(request, _AT_ONCE)
        try:
            wanted = json.loads(body) if body else {}
            only_ready = wanted.get("ready", False)
        except (ValueError, AttributeError, RecursionError):
            raise Refused('the body must be empty, or a JSON object such as {"ready": true}.') from None
        found = await run_in_threadpool(_index, list(self._service.products.values()))
        return Json([one for one in found if not only_ready or one["state"] == "READY"])

    async def infer(self, request: Request) -> Response:
        """``POST /v2/models/{m}/infer``."""
        product, number = self._product(request), _number(request)
        options = self._service.options
        body = await body_of(request, options.max_bytes)
        length, encoding = request.headers.get(HEADER_LENGTH), request.headers.get("content-encoding", "")
        limits = models.Limits(options.max_pixels, options.queue)
        if encoding or (len(body) > _AT_ONCE if length is None else len(length) > 4):
            async with self._turn:
                asked, sent = await run_in_threadpool(_read, body, encoding, length, options.max_bytes, limits)
        else:
            asked, sent = _read(body, "", length, options.max_bytes, limits)
        models.require_own(asked, product.name, number)
        if number is None and (active := product.active) is not None:
            number = active.number  # one version judges all, whatever is put to use meanwhile
        futures = [self._service.score(product.name, one.image, name=one.name, source="v2", version=number) for one in sent]
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        if failed := [answer for answer in answers if isinstance(answer, BaseException)]:
            raise failed[0]
        scored = [answer for answer in answers if not isinstance(answer, BaseException)]
        head = {"model_name": product.name, "model_version": str(scored[0].judgement.version)}
        head |= {} if asked.id is None else {"id": asked.id}
        content, json_length = await run_in_threadpool(lambda: write_response(head, models.outputs_of(scored, asked)))
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_length)})

    def _product(self, request: Request) -> Product:
        name = request.path_params["model"]
        product = self._service.products.get(name)
        if product is None:
            raise NotFound(f"there is no model {printable(name)[:100]!r}. POST /v2/repository/index lists them.")
        return product


def _number(request: Request) -> int | None:
    """The version in the address."""
    text = request.path_params.get("version")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(f"there is no version {printable(text)[:100]!r}: versions are numbers, from 1.")
    return int(text)


def _numbers(product: Product, number: int | None) -> list[int]:
    """The numbers of a product's versions, or the one that was asked for; NotFound if there is no such version."""
    versions = product.versions()
    if number is not None and number not in [version.number for version in versions]:
        raise NotFound(f"the model {product.name!r} has no version {number}. POST /v2/repository/index lists them.")
    return [version.number for version in versions if not version.removal] if number is None else [number]


def _index(products: list[Product]) -> list[dict[str, str]]:
    found = []
    for product in products:
        for version in product.versions():
            state = "READY" if product.loaded(version.number) is not None else "UNAVAILABLE"
            fault = version.removal or (product.fault if version.is_active else "")
            reason = "" if state == "READY" else fault or "loaded when it is asked for"
            found.append({"name": product.name, "version": str(version.number), "state": state, "reason": reason})
    return found


def _read(
    body: bytes, encoding: str, length: str | None, most: int, limits: models.Limits
) -> tuple[InferRequest, list[models.Sent]]:
    asked = read_request(unpacked(body, encoding, most), length)
    return asked, models.images_of(asked, limits)


def _answered(endpoint: _Endpoint) -> _Endpoint:
    """The endpoint, whose errors are answered in the protocol's form."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException as error:
            return Json({"error": error.detail}, error.status_code, dict(error.headers or {}))
        except AnomalyError as error:
            facts = refusal(error)["error"]
            retry_after = error.retry_after if isinstance(error, ServiceError) else None
            return Json(
                {"error": facts["message"]}, facts["status"], {} if retry_after is None else {"Retry-After": str(retry_after)}
            )

    return guarded


def routes(service: Service) -> list[BaseRoute]:
    """The protocol's addresses, below ``/v2``."""
    own = Protocol(service)
    table: list[tuple[str, str, _Endpoint]] = [
        ("GET", "/v2", own.server),
        ("GET", "/v2/health/live", own.live),
        ("GET", "/v2/health/ready", own.ready),
        ("POST", "/v2/repository/index", own.index),
    ]
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        table += [("GET", model, own.model), ("GET", f"{model}/ready", own.model_ready), ("POST", f"{model}/infer", own.infer)]
    found: list[BaseRoute] = [Route(path, _answered(endpoint), methods=[method]) for method, path, endpoint in table]

    async def nothing(request: Request) -> Response:
        """Any other address, or another method."""
        fits = [route for route in found if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE]
        if fits:
            allowed = ", ".join(sorted({method for route in fits for method in route.methods or ()}))
            raise HTTPException(405, f"this address takes {allowed}.", {"Allow": allowed})
        raise NotFound(f"there is no {printable(request.url.path)[:200]!r} in this server's protocol. GET /v2 describes it.")

    return found + [Route(path, _answered(nothing), methods=METHODS) for path in ("/v2", "/v2/{rest:path}")]
