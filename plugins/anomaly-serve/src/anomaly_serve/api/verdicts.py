"""The history: verdicts that were answered, their images and maps, and what people said of them."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anomaly_serve.answers import Json, verdict_json, who_of
from anomaly_serve.api.asked import flag, json_of, one_of, only, real, whole
from anomaly_serve.faults import NotFound, Unusable
from anomaly_serve.pictures import as_png, scale_of
from anomaly_serve.records import MARKS, Judgement
from anomaly_serve.service import Service

MOST = 500  # verdicts of a page
FILTERS = ("is_anomalous", "mark", "version", "since", "until", "text")


def verdict_routes(service: Service) -> list[Route]:
    """The history."""
    own = Verdicts(service)
    base = "/v1/products/{product}/verdicts"
    return [
        Route(base, own.some, methods=["GET"]),
        Route(f"{base}/{{id}}", own.one, methods=["GET"]),
        Route(f"{base}/{{id}}/image", own.image, methods=["GET"]),
        Route(f"{base}/{{id}}/map.png", own.map_png, methods=["GET"]),
        Route(f"{base}/{{id}}/mark", own.mark, methods=["POST"]),
    ]


class Verdicts:
    """The endpoints; those that are no coroutines run in threads."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def some(self, request: Request) -> Response:
        """A page of verdicts, the newest first; ``next`` is the ``before`` of the page that follows."""
        only(request, "limit", "before", *FILTERS)
        product = self._service.product(request.path_params["product"]).name
        limit = whole(request, "limit", 1, MOST) or 50
        filters: dict[str, Any] = {
            "is_anomalous": flag(request, "is_anomalous"),
            "mark": one_of(request, "mark", MARKS),
            "version": whole(request, "version"),
            "since": real(request, "since"),
            "until": real(request, "until"),
            "text": _text(request),
        }
        before = request.query_params.get("before")
        if before is not None and not _is_id(before):
            raise Unusable(f"before={before[:40]!r} is no verdict's id. Take `next` of the page before.")
        filters = {name: value for name, value in filters.items() if value is not None}
        found = self._service.store.page(product, limit=limit, before=before, **filters)
        return Json({"verdicts": [verdict_json(row) for row in found.judgements], "next": found.next})

    def one(self, request: Request) -> Response:
        """A verdict."""
        only(request)
        return Json(verdict_json(self._judgement(request)))

    def image(self, request: Request) -> Response:
        """The image as it came."""
        only(request)
        judgement = self._judgement(request)
        kept = self._service.store.image(judgement.id)
        if kept is None:
            raise NotFound("the image of this verdict is not kept: it was sent so, or others have taken its place.")
        # a browser shows it as an image or not at all, whatever its bytes are
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
        return Response(kept[0], media_type=kept[1], headers=headers)

    def map_png(self, request: Request) -> Response:
        """The map, again from the kept image."""
        only(request)
        judgement = self._judgement(request)
        values = self._service.map_of(judgement)
        if values is None:
            raise NotFound("there is no map of this verdict: its image is not kept, or its detector has none.")
        version = self._service.product(judgement.product).load(judgement.version)
        return Response(as_png(values, scale_of(values, version)), media_type="image/png")

    async def mark(self, request: Request) -> Response:
        """Say what a person found; null takes it back."""
        only(request)
        judgement = await run_in_threadpool(self._judgement, request)
        body = await json_of(request, mark=(str,))
        mark = body["mark"]
        if mark is not None and mark not in MARKS:
            raise Unusable(f"mark={mark[:40]!r} is not known. Give {', '.join(MARKS)} or null.")
        await run_in_threadpool(self._service.store.mark, judgement.id, mark, who_of(request))
        return Json(verdict_json(judgement.marked(mark)))

    def _judgement(self, request: Request) -> Judgement:
        product, id = self._service.product(request.path_params["product"]).name, request.path_params["id"]
        found = self._service.store.judgement(id) if _is_id(id) else None
        if found is None or found.product != product:
            raise NotFound(f"{product!r} has no verdict {id[:40]!r}. GET /v1/products/{product}/verdicts lists them.")
        return found


def _is_id(text: str) -> bool:
    return len(text) == 26 and text.isascii() and text.isalnum()


def _text(request: Request) -> str | None:
    text = request.query_params.get("text")
    if text is not None and (len(text) > 200 or "\0" in text or not text.isprintable()):
        raise Unusable("text: give at most 200 printable characters.")
    return text or None
