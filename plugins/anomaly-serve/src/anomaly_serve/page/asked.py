"""What a request asks for: its body, its numbers, its filters."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from anomaly_serve.records import MARKS

_BODY = 64 * 1024  # bytes of a form or of JSON: a reason in words is the longest thing in them

Body = dict[str, Any]


def changing(handler: Callable[[Request, Body], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that changes something: a bounded body, JSON or a form, and the handler in a thread. That no page of another
    site asks for it is seen to before, by :class:`~anomaly_serve.access.Access`."""

    async def endpoint(request: Request) -> Response:
        body = await _read(request)
        return await run_in_threadpool(handler, request, body)

    return endpoint


async def _read(request: Request) -> Body:
    held = bytearray()
    async for part in request.stream():
        held += part
        if len(held) > _BODY:
            raise HTTPException(413, f"The request has more than {_BODY // 1024} KiB.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            body = json.loads(bytes(held) or b"{}")
        elif kind == "application/x-www-form-urlencoded":
            body = dict(parse_qsl(held.decode("utf-8"), keep_blank_values=True, max_num_fields=100))
        else:
            raise HTTPException(415, "Send JSON or a form.")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The request's body cannot be read.") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "The request's body is no object.")
    return body


def text_of(body: Body, name: str, most: int = 2000) -> str:
    """A text of the body, without blanks at its ends; empty if it is missing."""
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise HTTPException(422, f"{name}: give at most {most} characters.")
    return value.strip()


def number_of(body: Body, name: str) -> float | None:
    """A finite number of the body; None if it is missing or empty."""
    value = body.get(name)
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise HTTPException(422, f"{name}: {value!r} is no number.")
    return number


def whole_of(body: Body, name: str) -> int | None:
    """A whole number of the body; None if it is missing or empty."""
    number = number_of(body, name)
    if number is not None and (number != int(number) or abs(number) > 2**31):
        raise HTTPException(422, f"{name}: give a whole number.")
    return None if number is None else int(number)


def filters(request: Request) -> dict[str, Any]:
    """The filters in the query, as :meth:`Store.judgements` takes them; those that are empty are left out.

    ``verdict``: alarm, normal; ``mark``: confirmed, fine, missed; ``version``; ``text``; ``since``, ``until``: local times such
    as ``2026-11-26T14:20``, or seconds since 1970.
    """
    asked = {name: value for name, value in request.query_params.items() if value}
    found: dict[str, Any] = {}
    verdict = asked.get("verdict")
    if verdict in ("alarm", "normal"):
        found["is_anomalous"] = verdict == "alarm"
    if asked.get("mark") in (*MARKS, "any", "none"):
        found["mark"] = asked["mark"]
    if (version := whole_of(dict(asked), "version")) is not None:
        found["version"] = version
    if text := asked.get("text", "").strip():
        found["text"] = text[:200]
    for name in ("since", "until"):
        if name in asked:
            found[name] = _time(name, asked[name])
    return found


def _time(name: str, text: str) -> float:
    try:
        return float(text) if text.replace(".", "", 1).isdigit() else datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise HTTPException(422, f"{name}: {text!r} is no time such as 2026-11-26T14:20.") from error
