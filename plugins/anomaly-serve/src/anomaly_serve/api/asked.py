"""What a request asks for in its address, its headers and its JSON, each value checked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request

from anomaly_serve.bodies import body_of
from anomaly_serve.faults import NotFound, ServiceError, Unusable, WrongMedia

MOST_JSON = 1 << 16  # bytes of a request in JSON
GREATEST = 2**31 - 1  # what every database holds
_IN_WORDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def only(request: Request, *names: str) -> None:
    """Unusable if the address has an option that would be ignored."""
    for name in request.query_params:
        if name not in names:
            known = ", ".join(names) or "none"
            raise Unusable(f"the address has {name[:40]!r}, which would be ignored. Known here: {known}. Leave it out.")
        if len(request.query_params.getlist(name)) > 1:
            raise Unusable(f"the address has {name!r} more than once. Say it once.")


def whole(request: Request, name: str, low: int = 1, high: int = GREATEST) -> int | None:
    """A whole number of the address; None without it."""
    return None if (text := request.query_params.get(name)) is None else _whole(name, text, low, high)


def _whole(name: str, text: str, low: int = 1, high: int = GREATEST) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and low <= int(text) <= high):
        raise Unusable(f"{name}={text[:40]!r} is no whole number from {low} to {high}.")
    return int(text)


def real(request: Request, name: str) -> float | None:
    """A time of the address, in seconds since 1970; None without it."""
    text = request.query_params.get(name)
    try:
        value = None if text is None else float(text[:40])
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise Unusable(f"{name}={(text or '')[:40]!r} is no finite number. Give seconds since 1970, such as {name}=1795716455.")
    return value


def one_of(request: Request, name: str, known: Iterable[str], default: str | None = None) -> str | None:
    """A word of the address, of those that are known."""
    value = request.query_params.get(name, default)
    if value is not None and value not in known:
        raise Unusable(f"{name}={value[:40]!r} is not known. Give {' or '.join(known)}.")
    return value


def flag(request: Request, name: str, default: bool | None = None) -> bool | None:
    """0 or 1 of the address (or false and true)."""
    word = one_of(request, name, ("0", "1", "false", "true"))
    return default if word is None else word in ("1", "true")


def version_in(request: Request, name: str = "version") -> int:
    """A version's number in the path; NotFound if it is none, as there can be no such version."""
    text: str = request.path_params[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and 1 <= int(text) <= GREATEST):
        raise NotFound(f"there is no version {text[:40]!r}: they are numbered from 1.")
    return int(text)


async def json_of(request: Request, **kinds: tuple[type, ...]) -> dict[str, Any]:
    """The JSON object of a body, with no other keys than those of ``kinds``, each of one of its types; missing ones are None.

    Raises:
        WrongMedia, ServiceError (400), Unusable: it is something else.
    """
    media = media_of(request)
    if media != "application/json":
        raise WrongMedia(f"the body is of type {media[:40] or 'unknown'!r}. Send JSON, with Content-Type: application/json.")
    body = await body_of(request, MOST_JSON)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServiceError(f"the body is no JSON: {str(error)[:200]}.") from None
    if not isinstance(values, dict):
        raise Unusable(f"the body is JSON, but no object. Send {{...}} with {', '.join(kinds)}.")
    for key, value in values.items():
        if key not in kinds:
            raise Unusable(f"the body has {key[:40]!r}, which would be ignored. Known here: {', '.join(kinds)}. Leave it out.")
        if value is not None and not (type(value) in kinds[key] or (type(value) is int and float in kinds[key])):
            raise Unusable(f"{key} is of the wrong type: give {' or '.join(_IN_WORDS[kind] for kind in kinds[key])}.")
        if isinstance(value, int) and abs(value) > GREATEST:
            raise Unusable(f"{key} is too large a number.")
        if isinstance(value, float) and not math.isfinite(value):
            raise Unusable(f"{key} is no finite number.")
        if isinstance(value, str) and len(value) > 2000:
            raise Unusable(f"{key} has more than 2,000 characters. Say it in fewer.")
    return {**dict.fromkeys(kinds), **values}


def media_of(request: Request) -> str:
    """The type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
