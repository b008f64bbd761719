"""``POST /v1/products/{product}/score`` and ``/map``."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anomaly_core import AnomalyError
from anomaly_serve.answers import Json, refusal, verdict_json
from anomaly_serve.api.asked import flag, one_of, only, whole
from anomaly_serve.api.images import RAW_OPTIONS, Sent, image_in, images_in, is_form
from anomaly_serve.faults import Busy, Unusable
from anomaly_serve.judging import Scored
from anomaly_serve.pictures import as_npy, as_png, extent_of, scale_of
from anomaly_serve.products import LoadedVersion
from anomaly_serve.service import Service

MAPS = {"png": "image/png", "npy": "application/x-npy"}
OPTIONS = ("name", "version", "keep", "map", *RAW_OPTIONS)
AT_ONCE = 8  # images of a form that are in work together
PAUSE = 0.05  # seconds, before an image of a form is offered to a full queue again
OFFERS = 200


def scoring_routes(service: Service) -> list[Route]:
    """Scoring of images."""
    scoring = Scoring(service)
    return [
        Route("/v1/products/{product}/score", scoring.score, methods=["POST"]),
        Route("/v1/products/{product}/map", scoring.map_alone, methods=["POST"]),
    ]


class Scoring:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def score(self, request: Request) -> Response:
        """One image or many; or the map alone, for who accepts nothing but a PNG."""
        if request.headers.get("accept", "").partition(";")[0].strip() == MAPS["png"]:
            return await self.map_alone(request)
        only(request, *OPTIONS)
        product, options = self._options(request)
        kind = one_of(request, "map", ("none", *MAPS), "none") or "none"
        if is_form(request):
            if "name" in request.query_params:
                raise Unusable("name would be ignored: each file of a form has its own. Leave it out.")
            return await self._score_many(request, product, kind, options)
        image = await image_in(request, self._service.options.max_bytes)
        future = self._service.score(product, image, name=request.query_params.get("name", ""), **options)
        del image
        return await self._answer(await asyncio.wrap_future(future), kind)

    async def map_alone(self, request: Request) -> Response:
        """The map of one image, with the verdict in headers."""
        only(request, *OPTIONS)
        product, options = self._options(request)
        kind = one_of(request, "map", MAPS, "png") or "png"
        image = await image_in(request, self._service.options.max_bytes)
        name = request.query_params.get("name", "")
        scored = await asyncio.wrap_future(self._service.score(product, image, name=name, **options))
        if scored.map is None:
            raise Unusable("this detector has no anomaly maps. Ask for the score alone.")
        facts = await self._in_thread(self._map_facts, scored, kind)
        return Response(facts.pop("file"), media_type=MAPS[kind], headers=_headers(scored, facts))

    def _options(self, request: Request) -> tuple[str, dict[str, Any]]:
        product = self._service.product(request.path_params["product"]).name  # before the body is read
        options = {"version": whole(request, "version"), "keep": flag(request, "keep", True)}
        return product, options

    async def _answer(self, scored: Scored, kind: str) -> Response:
        facts = verdict_json(scored.judgement)
        if kind == "none":
            return Json(facts)
        return Json({**facts, "map": await self._in_thread(self._map_json, scored, kind)})

    async def _score_many(self, request: Request, product: str, kind: str, options: dict[str, Any]) -> Response:
        sent = await images_in(request, self._service.options.max_bytes)
        results: list[Any] = [None] * len(sent)
        numbers = iter(range(len(sent)))

        async def work() -> None:
            for number in numbers:
                results[number] = await self._one_of_many(sent[number], product, kind, options)
                sent[number] = Sent("", b"")

        await asyncio.gather(*(work() for _ in range(min(AT_ONCE, len(sent)))))
        return Json({"results": results})

    async def _one_of_many(self, sent: Sent, product: str, kind: str, options: dict[str, Any]) -> dict[str, Any]:
        try:
            if isinstance(sent.image, Exception):
                raise sent.image
            scored = await self._when_there_is_room(product, sent.image, sent.name, options)
            facts = verdict_json(scored.judgement)
            return facts if kind == "none" else {**facts, "map": await self._in_thread(self._map_json, scored, kind)}
        except AnomalyError as error:
            return {"name": sent.name[:200], **refusal(error)}

    async def _when_there_is_room(self, product: str, image: bytes, name: str, options: dict[str, Any]) -> Scored:
        for offer in range(OFFERS):
            try:
                return await asyncio.wrap_future(self._service.score(product, image, name=name, **options))
            except Busy:
                if offer == OFFERS - 1:
                    raise
            await asyncio.sleep(PAUSE)
        raise AssertionError

    async def _in_thread(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)

    def _version(self, scored: Scored) -> LoadedVersion:
        return self._service.product(scored.judgement.product).load(scored.judgement.version)

    def _map_facts(self, scored: Scored, kind: str) -> dict[str, Any]:
        version, values = self._version(scored), scored.map
        assert values is not None
        scale = scale_of(values, version)
        file = as_png(values, scale) if kind == "png" else as_npy(values)
        extent = extent_of(values, version, scored.judgement)
        return {"file": file, "low": scale.low, "high": scale.high, "extent": extent}

    def _map_json(self, scored: Scored, kind: str) -> dict[str, Any] | None:
        if scored.map is None:
            return None
        facts = self._map_facts(scored, kind)
        height, width = scored.map.shape
        data = b64encode(facts.pop("file")).decode()
        return {"media_type": MAPS[kind], "width": width, "height": height, **facts, "data": data}


def _headers(scored: Scored, facts: dict[str, Any]) -> dict[str, str]:
    judgement = scored.judgement
    verdict = "unknown" if judgement.is_anomalous is None else str(judgement.is_anomalous).lower()
    return {
        "X-Verdict-Id": judgement.id,
        "X-Score": repr(judgement.score),
        "X-Is-Anomalous": verdict,
        "X-Version": str(judgement.version),
        "X-Map-Low": repr(facts["low"]),
        "X-Map-High": repr(facts["high"]),
        "X-Map-Extent": " ".join(map(repr, facts["extent"])),
    }
