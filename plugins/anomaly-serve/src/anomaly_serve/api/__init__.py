"""Version 1 of the service's own interface over HTTP."""

from __future__ import annotations

from starlette.routing import Route

from anomaly_serve.service import Service


def routes(service: Service) -> list[Route]:
    """What is served below ``/v1``, and the document of it."""
    from anomaly_serve.api.docs import docs_routes
    from anomaly_serve.api.products import product_routes
    from anomaly_serve.api.scoring import scoring_routes
    from anomaly_serve.api.verdicts import verdict_routes

    return [*scoring_routes(service), *product_routes(service), *verdict_routes(service), *docs_routes()]
