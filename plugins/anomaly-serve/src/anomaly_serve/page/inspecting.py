"""*Inspect*: verdicts as they come, each with its image, its map and its reasons, and what a person says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from anomaly_serve.answers import who_of
from anomaly_serve.page import words
from anomaly_serve.page.asked import Body, changing, filters
from anomaly_serve.page.pictures import Pictures
from anomaly_serve.page.render import figure, iso, moment, render
from anomaly_serve.page.waiting import Waiting
from anomaly_serve.records import MARKS, Judgement

if TYPE_CHECKING:
    from anomaly_serve.service import Service

_ROWS = 50  # verdicts of one answer
_LATE = 15.0  # seconds by which verdicts may come in another order than their images did
_FOR_EVER = {"cache-control": "private, max-age=86400, immutable"}


def routes(service: Service) -> list[BaseRoute]:
    """The page, its list, its pictures, and marks."""
    pictures, waiting = Pictures(service), Waiting(service.store)
    one = "/api/products/{product}/judgements/{id}"

    def picture(of: Callable[[str], tuple[bytes, str]]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            content, media = of(_judgement(request).id)
            return Response(content, media_type=media, headers={} if media.endswith("svg+xml") else _FOR_EVER)

        return endpoint

    def region(request: Request) -> Response:
        content, media = pictures.region(_judgement(request), request.path_params["number"])
        return Response(content, media_type=media, headers={} if media.endswith("svg+xml") else _FOR_EVER)

    def overlay(request: Request) -> Response:
        made = pictures.overlay(_judgement(request))
        if made is None:
            return Response(status_code=204)
        frame = " ".join(f"{number:.3f}" for number in made.frame)
        return Response(made.png, media_type="image/png", headers={"x-frame-in-image": frame, **_FOR_EVER})

    return [
        Route("/products/{product}/inspect", _page),
        Route("/api/products/{product}/live", lambda request: _live(request, waiting)),
        Route(one, _detail),
        Route(f"{one}/thumbnail", picture(pictures.thumbnail)),
        Route(f"{one}/image", picture(pictures.image)),
        Route(f"{one}/region/{{number:int}}", region),
        Route(f"{one}/map", overlay),
        Route(f"{one}/mark", changing(lambda request, body: _mark(request, body, waiting)), methods=["POST"]),
        Route("/api/products/{product}/alarms/{alarm:int}/acknowledge", changing(_acknowledge), methods=["POST"]),
    ]


def product_of(request: Request) -> str:
    """The product in the path; UnknownProduct, which is a 404, if there is none."""
    return str(request.app.state.service.product(request.path_params["product"]).name)


def _page(request: Request) -> Response:
    product = product_of(request)
    versions = request.app.state.service.store.versions(product)
    return render(request, "inspect.html", product=product, section="inspect", versions=[one.number for one in versions][::-1])


def _live(request: Request, waiting: Waiting) -> Response:
    """The newest verdicts; with ``after`` those since that one, and a little before it: some come late; or those ``before``."""
    product, store = product_of(request), request.app.state.service.store
    asked = request.query_params
    wanted = filters(request)
    known = store.judgement(asked["after"]) if asked.get("after") else None
    if known is not None:  # a search for a text must not look at the whole history each second
        wanted["since"] = max(wanted.get("since", 0.0), known.time - _LATE)
    found = store.judgements(product, limit=_ROWS, before=asked.get("before") or None, **wanted)
    active = store.active(product)
    return JSONResponse(
        {
            "judgements": [row(one) for one in found],
            "more": len(found) == _ROWS,
            "waiting": waiting.of(product),
            "version": active.number if active else None,
            "alarms": [
                {"id": alarm.id, "text": alarm.text, "since": moment(alarm.since), "iso": iso(alarm.since)}
                for alarm in store.alarms(product, open_only=True)
            ],
        }
    )


def _detail(request: Request) -> Response:
    judgement, store = _judgement(request), request.app.state.service.store
    settings = next(
        (one for one in store.settings(judgement.product, judgement.version) if one.number == judgement.settings), None
    )
    scores = len(settings.calibration.scores) if settings else 0
    maxima = len(settings.calibration.map_maxima) if settings else 0
    height, width = judgement.size
    regions = [
        {"points": " ".join(f"{x:g},{y:g}" for x, y in region["polygon"]), "words": words.place(region, maxima)}
        for region in judgement.regions or ()
    ]
    facts = {
        "reasons": words.reasons(judgement, scores),
        "regions": None if judgement.regions is None else regions,
        "height": height,
        "width": width,
        "settings": judgement.settings,
        "why": settings.why if settings else "",
        "source": judgement.source,
        "times": {name: f"{value:.0f} ms" for name, value in judgement.times.items()},
        "kept": store.image_state(judgement.id) == "kept",
        "done": words.done(judgement.mark, judgement.is_anomalous),
    }
    return JSONResponse({**row(judgement), **facts})


def row(judgement: Judgement) -> dict[str, Any]:
    """A verdict in a list."""
    return {
        "id": judgement.id,
        "name": judgement.name or "without a name",
        "time": moment(judgement.time),
        "iso": iso(judgement.time),
        "verdict": words.verdict(judgement),
        "alarm": judgement.is_anomalous,
        "score": figure(judgement.score),
        "threshold": figure(judgement.threshold),
        "p_value": None if judgement.p_value is None else f"{judgement.p_value:.2g}",
        "mark": judgement.mark,
        "version": judgement.version,
    }


def _judgement(request: Request) -> Judgement:
    found = request.app.state.service.store.judgement(request.path_params["id"])
    if found is None or found.product != request.path_params["product"]:
        raise HTTPException(404, "There is no such verdict of this product.")
    judgement: Judgement = found
    return judgement


def _mark(request: Request, body: Body, waiting: Waiting) -> Response:
    judgement, store = _judgement(request), request.app.state.service.store
    mark = body.get("mark")
    if mark is not None and mark not in MARKS:
        raise HTTPException(422, f"A mark is one of {', '.join(MARKS)}, or null to take it back.")
    if mark == "fine" and judgement.is_anomalous is False:
        raise HTTPException(422, "This image was called normal: confirm it, or say that something was missed.")
    if mark == "confirmed" and judgement.is_anomalous is None:
        raise HTTPException(422, "There is no verdict that could be confirmed: say that the image is fine, or missed.")
    if mark == "missed" and judgement.is_anomalous:
        raise HTTPException(422, "This image raised an alarm, so nothing was missed: confirm it, or say that it is fine.")
    store.mark(judgement.id, mark, who_of(request))
    facts = {"done": words.done(mark, judgement.is_anomalous), "waiting": waiting.of(judgement.product)}
    return JSONResponse({**row(judgement.marked(mark)), **facts})


def _acknowledge(request: Request, body: Body) -> Response:
    product, store = product_of(request), request.app.state.service.store
    number = request.path_params["alarm"]
    if number not in {alarm.id for alarm in store.alarms(product)}:
        raise HTTPException(404, "There is no such alarm of this product.")
    store.acknowledge(number, who_of(request))
    return JSONResponse({"acknowledged": number})
