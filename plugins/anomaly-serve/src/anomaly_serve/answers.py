"""What is answered over HTTP: JSON, and errors in one form."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from anomaly_core import AnomalyError, ConfigError, DataError
from anomaly_serve.faults import NotReady, ServiceError, Unusable
from anomaly_serve.records import Judgement

_log = logging.getLogger("anomaly_core.serve")
_FIELDS = tuple(field.name for field in fields(Judgement))


class Json(Response):
    """Compact JSON, without NaN, which no other reader takes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True).encode()


def refused(error: BaseException) -> Json:
    """The answer to a request that failed, in the one form that errors have."""
    facts, headers = refusal(error), {}
    status: int = facts["error"]["status"]
    if isinstance(error, ServiceError) and error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Json(facts, status, headers)


def refusal(error: BaseException) -> dict[str, Any]:
    """``{"error": {"code", "status", "message"}}``; the message says what, where, and the next step. What is no error
    of ours is not told to strangers."""
    status, code, message = 500, "failed", "the service failed at this. Its log says why."
    if isinstance(error, ServiceError):
        status, code, message = error.status, error.code, str(error)
    elif isinstance(error, DataError | ConfigError):
        status, code, message = Unusable.status, Unusable.code, str(error)
    elif isinstance(error, AnomalyError):  # of a detector or of the store, which may name a place on the disk
        status, code = NotReady.status, NotReady.code
        _log.warning("a request failed: %s", error)
    return {"error": {"code": code, "status": status, "message": message}}


def verdict_json(judgement: Judgement) -> dict[str, Any]:
    """A verdict as it is answered."""
    facts = {name: getattr(judgement, name) for name in _FIELDS}
    height, width = facts.pop("size")
    return {**facts, "width": width, "height": height}


def who_of(request: Request) -> str:
    """Who asks: the name of the token, or ``local``."""
    return str(request.scope.get("state", {}).get("who") or "local")
