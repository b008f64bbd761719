"""How the service is: alive, ready, and its figures for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anomaly_serve.answers import Json
from anomaly_serve.judging import Scored
from anomaly_serve.service import Service

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of a service, in a registry of its own."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._service = service
        own: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter("anomaly_requests", "Requests, by the status of the answer.", ["status"], **own)
        self._verdicts = Counter("anomaly_verdicts", "Verdicts, by product and verdict.", ["product", "verdict"], **own)
        stages = "Seconds that an image took, by stage."
        self._stages = Histogram("anomaly_stage_seconds", stages, ["stage"], buckets=SECONDS, **own)
        self._batches = Histogram(
            "anomaly_batch_size", "Images that were scored together.", buckets=(1, 2, 4, 8, 16, 32), **own
        )
        self._statuses: dict[int, Any] = {}
        self._kinds: dict[tuple[str, bool | None], Any] = {}
        self._by_stage = {stage: self._stages.labels(stage) for stage in ("decode", "wait", "score", "total")}
        self.registry.register(self)
        service.batched.append(lambda size, milliseconds: self._batches.observe(size))
        service.judged.append(self._judged)

    def answered(self, status: int) -> None:
        """Count an answer."""
        counter = self._statuses.get(status)
        if counter is None:
            counter = self._statuses[status] = self._requests.labels(str(status))
        counter.inc()

    def _judged(self, scored: Scored) -> None:
        judgement = scored.judgement
        key = judgement.product, judgement.is_anomalous
        counter = self._kinds.get(key)
        if counter is None:
            word = {True: "anomalous", False: "normal", None: "unknown"}[judgement.is_anomalous]
            counter = self._kinds[key] = self._verdicts.labels(judgement.product, word)
        counter.inc()
        for stage, milliseconds in judgement.times.items():
            self._by_stage[stage].observe(milliseconds / 1000)
        self._by_stage["total"].observe(max(0.0, time.time() - judgement.time))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What is read when it is asked for."""
        service = self._service
        yield GaugeMetricFamily("anomaly_queue_length", "Images in work, of all products.", value=service.in_work)
        yield GaugeMetricFamily("anomaly_queue_limit", "Images that may be in work.", value=service.options.queue)
        yield GaugeMetricFamily("anomaly_store_bytes", "Bytes of kept images.", value=service.store.used_bytes())
        ready = GaugeMetricFamily("anomaly_product_ready", "Whether a version judges.", labels=["product"])
        alarms = GaugeMetricFamily("anomaly_drift_alarms_open", "Drift alarms not acknowledged.", labels=["product"])
        version = GaugeMetricFamily("anomaly_active_version", "The version that judges.", labels=["product"])
        for name, product in service.products.items():
            active = product.active
            ready.add_metric([name], active is not None)
            if active is not None:
                version.add_metric([name], active.number)
            alarms.add_metric([name], len(service.store.alarms(name, open_only=True)))
        yield from (ready, version, alarms)

    def describe(self) -> list[Any]:
        """Nothing: :meth:`collect` asks the database, which registering must not."""
        return []


def monitoring_routes(service: Service, metrics: Metrics) -> list[Route]:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    async def alive(request: Request) -> Response:
        return Json({"status": "alive"})

    async def ready(request: Request) -> Response:
        missing = [name for name, product in service.products.items() if product.active is None]
        is_ready = service.runs and (not service.products or len(missing) < len(service.products))
        facts = {"status": "ready" if is_ready else "ends" if not service.runs else "no version judges"}
        return Json({**facts, "products": len(service.products), "not_ready": missing}, 200 if is_ready else 503)

    def figures(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        Route("/healthz", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", figures, methods=["GET"]),
    ]
