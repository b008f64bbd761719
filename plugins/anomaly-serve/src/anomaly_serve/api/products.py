"""Products, their versions, which of them judges, and by which settings."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anomaly_core import Calibration
from anomaly_serve.answers import Json, who_of
from anomaly_serve.api.asked import json_of, only, version_in
from anomaly_serve.faults import NotFound, NotReady, Unusable
from anomaly_serve.products import Product
from anomaly_serve.records import Settings, Version
from anomaly_serve.service import Service

LEAST_RATE = 1e-9


def product_routes(service: Service) -> list[Route]:
    """Everything about products but images and verdicts."""
    own = Products(service)
    base = "/v1/products"
    return [
        Route(base, own.all, methods=["GET"]),
        Route(f"{base}/{{product}}", own.one, methods=["GET"]),
        Route(f"{base}/{{product}}/versions", own.versions, methods=["GET"]),
        Route(f"{base}/{{product}}/versions/{{number}}", own.remove_files, methods=["DELETE"]),
        Route(f"{base}/{{product}}/activate", own.activate, methods=["POST"]),
        Route(f"{base}/{{product}}/settings", own.settings, methods=["GET", "POST"]),
    ]


def version_json(version: Version) -> dict[str, Any]:
    """A version as it is answered: without its path, which is nobody's business over the network."""
    return {
        "number": version.number,
        "parent": version.parent,
        "created": version.created,
        "who": version.who,
        "note": version.note,
        "is_active": version.is_active,
        "files_removed": version.files_removed,
        "files_removed_why": version.files_removed_why,
    }


def settings_json(settings: Settings) -> dict[str, Any]:
    """Settings as they are answered: without the scores behind them."""
    calibration = settings.calibration
    return {
        "number": settings.number,
        "threshold": calibration.threshold,
        "map_threshold": calibration.map_threshold,
        "false_alarm_rate": calibration.false_alarm_rate,
        "promise": calibration.promise(),
        "source": calibration.source,
        "warning": _warning(calibration),
        "count": calibration.count,
        "least_area": settings.least_area,
        "time": settings.time,
        "who": settings.who,
        "why": settings.why,
    }


def _warning(calibration: Calibration) -> str | None:
    """What a threshold cannot guarantee, with a next step that is taken by requests."""
    shortfall = calibration.shortfall()
    if shortfall:
        return f"{shortfall}: add a version taught from more normal images, or raise false_alarm_rate."
    return calibration.warning


class Products:
    """The endpoints; those that are no coroutines run in threads."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def all(self, request: Request) -> Response:
        """All products."""
        only(request)
        return Json({"products": [self._facts(product) for _, product in sorted(self._service.products.items())]})

    def one(self, request: Request) -> Response:
        """A product."""
        only(request)
        return Json(self._facts(self._product(request)))

    def versions(self, request: Request) -> Response:
        """The versions of a product, the first first."""
        only(request)
        return Json({"versions": [version_json(version) for version in self._product(request).versions()]})

    def remove_files(self, request: Request) -> Response:
        """Remove the files of a version that was taught here; it stays in the history."""
        only(request)
        product, number, teaching = self._product(request), version_in(request, "number"), self._service.teaching
        if teaching is None:
            raise NotReady("this service does not teach, and has no files of its own.")
        return Json(version_json(teaching.retention.remove(product.name, number, who_of(request))))

    async def settings(self, request: Request) -> Response:
        """The settings of the version that judges, the newest last; or new ones."""
        only(request)
        product = self._product(request)
        if request.method != "POST":
            return Json(await run_in_threadpool(self._settings, product))
        kinds: dict[str, tuple[type, ...]] = {"version": (int,), "why": (str,)}
        kinds |= dict.fromkeys(("threshold", "false_alarm_rate", "least_area"), (float,))
        return Json(await run_in_threadpool(self._apply, product, await json_of(request, **kinds), who_of(request)))

    async def activate(self, request: Request) -> Response:
        """Have a version judge, or none."""
        only(request)
        product, body = self._product(request), await json_of(request, version=(int,))
        number = body["version"]
        if number is not None and number < 1:
            raise NotFound(f"there is no version {number}: they are numbered from 1.")
        await run_in_threadpool(self._service.activate, product.name, number, who_of(request))
        return Json(await run_in_threadpool(self._facts, product))

    def _settings(self, product: Product) -> dict[str, Any]:
        rows = self._service.store.settings(product.name, self._judging(product))
        return {"settings": [settings_json(row) for row in rows]}

    def _apply(self, product: Product, body: dict[str, Any], who: str) -> dict[str, Any]:
        number = self._judging(product) if body["version"] is None else body["version"]
        if number < 1 or self._service.store.version(product.name, number) is None:
            raise NotFound(f"{product.name!r} has no version {number}. GET /v1/products/{product.name}/versions lists them.")
        old = self._service.store.settings(product.name, number)[-1]
        calibration = _changed(old.calibration, body["threshold"], body["false_alarm_rate"])
        least = old.least_area if body["least_area"] is None else body["least_area"]
        if least is not None and least < 0:
            raise Unusable("least_area is below 0. Give pixels of the image.")
        if (calibration, least) == (old.calibration, old.least_area):
            raise Unusable("nothing would change. Give threshold or false_alarm_rate, or least_area.")
        settings = self._service.apply_settings(product.name, number, calibration, least, who, body["why"] or "")
        return settings_json(settings)

    def _product(self, request: Request) -> Product:
        return self._service.product(request.path_params["product"])

    def _judging(self, product: Product) -> int:
        active = self._service.store.active(product.name)
        if active is None:
            raise NotFound(f"no version of {product.name!r} judges. Say which with version, or activate one.")
        return active.number

    def _facts(self, product: Product) -> dict[str, Any]:
        active = product.active
        return {
            "name": product.name,
            "active": None if active is None else version_json(active.record),
            "settings": None if active is None else settings_json(active.settings),
            "versions": len(product.versions()),
            "waiting": product.waiting,
            "is_ready": active is not None,
        }


def _changed(calibration: Calibration, threshold: float | None, rate: float | None) -> Calibration:
    """A calibration at another threshold or rate; Unusable where that cannot be."""
    if threshold is not None and rate is not None:
        raise Unusable("threshold and false_alarm_rate say the same thing. Give one of them.")
    if threshold is not None:
        return calibration.with_threshold(float(threshold))
    if rate is None:
        return calibration
    if not LEAST_RATE <= rate < 1:
        raise Unusable(f"false_alarm_rate is a share of normal images: give a number from {LEAST_RATE:g} to below 1.")
    if not calibration.scores:
        raise Unusable("this version has no scores of normal images, which a rate needs. Give a threshold.")
    return calibration.at_rate(float(rate))
