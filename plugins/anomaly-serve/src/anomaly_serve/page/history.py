"""*History*: every verdict with the version and the threshold behind it, who changed what, the versions, and the alarms."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from anomaly_serve.answers import who_of
from anomaly_serve.page import diary
from anomaly_serve.page.asked import Body, changing, filters
from anomaly_serve.page.charts import days_chart
from anomaly_serve.page.inspecting import product_of, row
from anomaly_serve.page.render import moment, render

if TYPE_CHECKING:
    from anomaly_serve.service import Service

_ROWS = 50
_TRAIL = 20  # pages that "newer" leads back
_FILTERS = ("verdict", "mark", "version", "text", "since", "until")
PARTS = (("", "Verdicts"), ("/changes", "Changes"), ("/versions", "Versions"), ("/alarms", "Alarms of the line"))


def routes(service: Service) -> list[BaseRoute]:
    """The four pages, the table as CSV, and another version to judge."""
    here = "/products/{product}/history"
    days = _Days(service.store)
    return [
        Route(here, lambda request: _verdicts(request, days)),
        Route(f"{here}/changes", _changes),
        Route(f"{here}/versions", _versions),
        Route(f"{here}/alarms", _alarms),
        Route(f"{here}.csv", _csv),
        Route("/api/products/{product}/history/count", _count),
        Route("/api/products/{product}/versions/{number:int}/activate", changing(_activate), methods=["POST"]),
    ]


class _Days:
    """The chart of the last days, drawn again once a minute: it looks at every verdict of them."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._drawn: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def of(self, product: str) -> dict[str, Any]:
        with self._lock:
            since, drawn = self._drawn.get(product, (0.0, {}))
            if not drawn or time.monotonic() - since > 60:
                drawn = days_chart(self._store.daily(product, 30))
                self._drawn[product] = (time.monotonic(), drawn)
            return drawn


def _verdicts(request: Request, days: _Days) -> Response:
    product, store = product_of(request), request.app.state.service.store
    asked = request.query_params
    found = store.page(product, limit=_ROWS, before=asked.get("before") or None, **filters(request))
    kept = {name: asked[name] for name in _FILTERS if asked.get(name)}
    trail = [part for part in asked.get("trail", "").split(",") if part or "trail" in asked][-_TRAIL:]
    older = newer = None
    if found.next:
        older = urlencode({**kept, "before": found.next, "trail": ",".join([*trail, asked.get("before", "")][-_TRAIL:])})
    if asked.get("before"):
        before = trail[-1] if trail else ""
        rest = {"trail": ",".join(trail[:-1])} if len(trail) > 1 else {}
        newer = urlencode({**kept, **({"before": before} if before else {}), **(rest if before else {})})
    return render(
        request,
        "history.html",
        product=product,
        section="history",
        part="",
        parts=PARTS,
        rows=[{**row(one), "settings": one.settings, "source": one.source} for one in found.judgements],
        asked={name: kept.get(name, "") for name in _FILTERS},
        versions=[one.number for one in store.versions(product)][::-1],
        query=urlencode(kept),
        older=older,
        reached=reached.time if found.is_cut and (reached := store.judgement(found.next)) else None,
        newer=newer,
        first=not asked.get("before"),
        chart=days.of(product),
    )


def _count(request: Request) -> Response:
    found = request.app.state.service.store.counted(product_of(request), **filters(request))
    return JSONResponse({"count": found.verdicts, "since": None if found.since is None else moment(found.since)})


def _csv(request: Request) -> Response:
    product = product_of(request)
    rows = request.app.state.service.store.export_csv(product, **filters(request))
    name = f"{product}-{time.strftime('%Y-%m-%d')}.csv"
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-._") else "_" for letter in name)
    headers = {"content-disposition": f'attachment; filename="{safe}"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


def _changes(request: Request) -> Response:
    product, store = product_of(request), request.app.state.service.store
    text = request.query_params.get("before")
    try:
        before = float(text) if text else None
    except ValueError as error:
        raise HTTPException(422, "before: give a time in seconds.") from error
    found = store.changes(product, limit=_ROWS, before=before)
    older = urlencode({"before": repr(found[-1].time)}) if len(found) == _ROWS else None
    rows = [{"time": one.time, "who": one.who, **diary.entry(one)} for one in found]
    return _part(request, product, "changes", rows=rows, older=older, first=before is None)


def _versions(request: Request) -> Response:
    product, store = product_of(request), request.app.state.service.store
    rows = []
    for version in store.versions(product)[::-1]:
        holds = store.settings(product, version.number)[-1]
        rows.append({"version": version, "settings": holds.number, "threshold": holds.calibration.threshold})
    fault = request.app.state.service.product(product).fault
    return _part(request, product, "versions", rows=rows, fault=fault)


def _alarms(request: Request) -> Response:
    product, store = product_of(request), request.app.state.service.store
    return _part(request, product, "alarms", rows=store.alarms(product))


def _part(request: Request, product: str, name: str, **facts: Any) -> Response:
    return render(request, f"{name}.html", product=product, section="history", part=f"/{name}", parts=PARTS, **facts)


def _activate(request: Request, body: Body) -> Response:
    product, service = product_of(request), request.app.state.service
    number = request.path_params["number"]
    if service.store.version(product, number) is None:
        raise HTTPException(404, f"There is no version {number} of this product.")
    service.activate(product, number, who_of(request))
    return JSONResponse({"version": number})
