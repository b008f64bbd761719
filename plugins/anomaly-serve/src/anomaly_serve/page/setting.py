"""*Set*: a threshold by what it would do, the least area of regions, and the settings that held before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from anomaly_core import Calibration
from anomaly_serve.answers import who_of
from anomaly_serve.page import consequences as what
from anomaly_serve.page.asked import Body, changing, number_of, text_of, whole_of
from anomaly_serve.page.inspecting import product_of, row
from anomaly_serve.page.render import figure, iso, moment, render
from anomaly_serve.records import Settings, Version

if TYPE_CHECKING:
    from anomaly_serve.service import Service

DAYS = (1, 3, 7, 30, 90)
_LEAST_WORDS = 3  # characters of a reason


def routes(service: Service) -> list[BaseRoute]:
    """The page, what a choice would do, and the choice."""
    recent = what.RecentScores(service.store)

    def distribution(request: Request) -> Response:
        asked = _Asked.of(request)
        days = recent.of(asked.product, asked.version.number, asked.days)
        return JSONResponse(what.histogram(asked.holds.calibration, days))

    def outcome(request: Request) -> Response:
        asked = _Asked.of(request)
        return JSONResponse(_outcome(asked, recent.of(asked.product, asked.version.number, asked.days)))

    return [
        Route("/products/{product}/set", _page),
        Route("/api/products/{product}/set/scores", distribution),
        Route("/api/products/{product}/set/outcome", outcome),
        Route("/api/products/{product}/set", changing(_apply), methods=["POST"]),
    ]


@dataclass(frozen=True)
class _Asked:
    """A product's version with the settings that hold, and the choice that a request asks about."""

    product: str
    version: Version
    holds: Settings
    own_area: float
    choice: dict[str, Any]
    days: int = 7

    @classmethod
    def of(cls, request: Request, body: Body | None = None) -> _Asked:
        values: Body = dict(request.query_params) if body is None else body
        product, service = product_of(request), request.app.state.service
        number = whole_of(values, "version")
        version = service.store.active(product) if number is None else service.store.version(product, number)
        if version is None:
            raise HTTPException(404, "There is no such version of this product.")
        days = whole_of(values, "days")
        days = 7 if days is None else days
        if not 1 <= days <= 3650:
            raise HTTPException(422, "Give 1 to 3650 days.")
        loaded = service.product(product).loaded(version.number)
        own = loaded.least_area if loaded is not None and loaded.settings.least_area is None else 0.0
        holds = service.store.settings(product, version.number)[-1]
        return cls(product, version, holds, own, values, days)

    @property
    def calibration(self) -> Calibration:
        """With the threshold that is asked for."""
        rate = number_of(self.choice, "per_thousand")
        try:
            return what.chosen(
                self.holds.calibration,
                value=number_of(self.choice, "threshold") if rate is None else None,
                rate=None if rate is None else float(f"{rate / 1000:.12g}"),
            )
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    @property
    def least_area(self) -> float | None:
        """That is asked for; None for the detector's own."""
        area = number_of(self.choice, "least_area")
        if area is not None and area < 0:
            raise HTTPException(422, "The least area of a region is 0 or more.")
        return area


def _page(request: Request) -> Response:
    product, service = product_of(request), request.app.state.service
    store = service.store
    versions = store.versions(product)
    number = whole_of(dict(request.query_params), "version")
    shown = next((one for one in versions if (one.is_active if number is None else one.number == number)), None)
    if shown is None and number is not None:
        raise HTTPException(404, "There is no such version of this product.")
    if shown is None:
        return render(request, "set.html", product=product, section="set", shown=None, versions=versions)
    history = store.settings(product, shown.number)
    holds = history[-1]
    loaded = service.product(product).loaded(shown.number)
    own = loaded.least_area if loaded is not None and holds.least_area is None else 0.0
    facts = {
        "shown": shown,
        "versions": versions[::-1],
        "holds": holds,
        "area": holds.least_area if holds.least_area is not None else own,
        "rate": what.per_thousand(holds.calibration.false_alarm_rate),
        "can_rate": bool(holds.calibration.scores),
        "history": [_row(one, holds) for one in history[::-1]],
        "days": DAYS,
    }
    return render(request, "set.html", product=product, section="set", **facts)


def _row(settings: Settings, holds: Settings) -> dict[str, Any]:
    area = settings.least_area
    return {
        "number": settings.number,
        "time": settings.time,
        "who": settings.who,
        "why": settings.why,
        "threshold": what.described(settings.calibration),
        "expected": what.expected(settings.calibration)["number"],
        "area": "the detector's own" if area is None else f"{figure(area)} px",
        "holds": settings.number == holds.number,
    }


def _outcome(asked: _Asked, recent: what.Recent) -> dict[str, Any]:
    """What the choice would do."""
    after, before = asked.calibration, asked.holds.calibration
    assert after.threshold is not None
    above, below = what.neighbours(recent, after.threshold)
    areas = what.regions_by_area(recent, asked.own_area if asked.least_area is None else asked.least_area)
    return {
        "threshold": after.threshold,
        "text": figure(after.threshold),
        "per_thousand": what.per_thousand(after.false_alarm_rate),
        "expected": what.expected(after),
        "observed": what.observed(recent, after.threshold),
        "before": {
            "threshold": figure(before.threshold),
            "expected": what.expected(before)["number"],
            "observed": what.observed(recent, before.threshold)["number"] if before.threshold is not None else "–",
            "least_area": "the detector's own" if asked.holds.least_area is None else figure(asked.holds.least_area),
        },
        "changed": what.changed(recent, before.threshold, after.threshold),
        "above": [row(one) for one in above],
        "below": [row(one) for one in below],
        "searched": len(recent.seen),
        "areas": {
            "words": _areas(areas),
            **{
                side: [{**row(one), "area": f"{area:,.0f} px", "region": number} for one, area, number in areas[side]]
                for side in ("kept", "left")
            },
        },
    }


def _areas(found: dict[str, Any]) -> str:
    if not found["of"]:
        return f"The newest {found['images']:,} images have no region." if found["images"] else "No image was judged yet."
    return f"{found['count']:,} of {found['of']:,} regions in the newest {found['images']:,} images are at least this large."


def _apply(request: Request, body: Body) -> Response:
    """New settings: a threshold or a rate, or those of before (``take_back``)."""
    asked, service = _Asked.of(request, body), request.app.state.service
    why = text_of(body, "why")
    if len(why) < _LEAST_WORDS:
        raise HTTPException(422, "Say why, in some words: whoever looks at a verdict later will read it.")
    if whole_of(body, "holds") != asked.holds.number:
        raise HTTPException(409, "Somebody has changed the settings since you opened this page. Load it again to see them.")
    back = whole_of(body, "take_back")
    if back is not None:
        earlier = next((one for one in service.store.settings(asked.product, asked.version.number) if one.number == back), None)
        if earlier is None:
            raise HTTPException(404, f"There are no settings {back} of this version.")
        calibration, least_area = earlier.calibration, earlier.least_area
    else:
        calibration, least_area = asked.calibration, asked.least_area
    same = (asked.holds.calibration, asked.holds.least_area) == (calibration, least_area)
    if same:
        raise HTTPException(422, "These settings hold already.")
    made = service.apply_settings(asked.product, asked.version.number, calibration, least_area, who_of(request), why)
    return JSONResponse({"number": made.number, "time": moment(made.time), "iso": iso(made.time)})
