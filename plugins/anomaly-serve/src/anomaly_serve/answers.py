"""What is answered over HTTP: JSON, and errors in one form."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from anomaly_core import AnomalyError, ConfigError, DataError
from anomaly_serve.faults import NotReady, ServiceError, Unusable
from anomaly_serve.records import Judgement


class Json(Response):
    """Compact JSON, without NaN, which no other reader takes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True).encode()


def refused(error: BaseException) -> Json:
    """The answer to a request that failed: ``{"error": {"code", "status", "message"}}``; the message says what, where, and the
    next step. What is no error of ours is not told to strangers."""
    status, code, headers = 500, "failed", {}
    message = "the service failed. Its log says why."
    if isinstance(error, ServiceError):
        status, code, message = error.status, error.code, str(error)
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, DataError | ConfigError):
        status, code, message = Unusable.status, Unusable.code, str(error)
    elif isinstance(error, AnomalyError):
        status, code, message = NotReady.status, "failed", str(error)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Json({"error": {"code": code, "status": status, "message": message}}, status, headers)


def verdict_json(judgement: Judgement) -> dict[str, Any]:
    """A verdict as it is answered."""
    facts = asdict(judgement)
    height, width = facts.pop("size")
    return {**facts, "width": width, "height": height}


def who_of(request: Request) -> str:
    """Who asks: the name of the token, or ``local``."""
    return str(request.scope.get("anomaly.who", "local"))
