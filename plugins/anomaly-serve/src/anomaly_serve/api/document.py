"""The OpenAPI document: every address, what it takes, and every status that it answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from anomaly_core import VERSION
from anomaly_serve.api.images import COLOURS, FILES, FORM, MOST_TOGETHER, RAW
from anomaly_serve.api.products import LEAST_RATE
from anomaly_serve.api.schemas import SCHEMAS, Schema, closed, nullable, refers
from anomaly_serve.api.verdicts import MOST
from anomaly_serve.records import MARKS

ALWAYS = (400, 401, 403, 405, 422, 429, 500)  # may be answered to any request with a token, a name or an option
PRODUCT = {"name": "product", "in": "path", "required": True, "schema": {"type": "string"}}
IDENTIFIER = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
NUMBER = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
_WHOLE: Schema = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_FLAG: Schema = {"enum": ["0", "1", "false", "true"]}
_JSON = "application/json"


def document() -> Schema:
    """The document, version 3.1 of OpenAPI."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "anomaly serve", "version": VERSION, "description": _ABOUT},
        "paths": _paths(),
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


_ABOUT = (
    "Scores images with fitted detectors. Each verdict is committed to the history before it is answered. Errors have one "
    "form, and their message says what to do. With a token file, every request but /healthz and /readyz needs "
    "the header Authorization: Bearer TOKEN."
)


_SEARCH = (
    "a part of the image's name, or an id. A search ends after about a second: a page may have few verdicts, or none, and a "
    "`next` with which to go on"
)


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _answers(content: Schema, *errors: int, headers: Schema | None = None) -> Schema:
    good: Schema = {"description": "done", "content": content}
    if headers:
        good["headers"] = headers
    bad = {str(code): _error(code) for code in sorted({*ALWAYS, *errors})}
    return {"200": good, **bad}


def _error(code: int) -> Schema:
    found: Schema = {"description": HTTPStatus(code).phrase, "content": {_JSON: {"schema": refers("Error")}}}
    if code == 429:
        found["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return found


def _json(name: str) -> Schema:
    return {_JSON: {"schema": refers(name)}}


def _body(**properties: Schema) -> Schema:
    return {"required": True, "content": {_JSON: {"schema": closed(properties, *properties)}}}


def _get(summary: str, content: Schema, *errors: int, parameters: list[Schema] | None = None) -> Schema:
    return {"get": {"summary": summary, "parameters": parameters or [], "responses": _answers(content, *errors)}}


def _binary() -> Schema:
    return {"schema": {"type": "string", "format": "binary"}}


def _scoring(summary: str, content: Schema, maps: list[str], default: str, many: bool) -> Schema:
    raw = [
        _query("width", {"type": "integer", "minimum": 1, "maximum": 1 << 20}, "of raw pixels; or X-Image-Width"),
        _query("height", {"type": "integer", "minimum": 1, "maximum": 1 << 20}, "of raw pixels; or X-Image-Height"),
        _query("colour", {"enum": list(COLOURS)}, "of raw pixels; RGB without it"),
    ]
    parameters = [
        PRODUCT,
        _query("name", {"type": "string"}, "what you call the image, such as a serial number; the first 200 characters"),
        _query("version", _WHOLE, "another version than the one that judges"),
        _query("keep", _FLAG, "0: the image is not kept, the verdict is"),
        _query("map", {"enum": maps}, f"{default} without it"),
        *raw,
    ]
    content_types: Schema = {media: _binary() for media in (*FILES, RAW)}
    if many:
        images = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": MOST_TOGETHER}
        content_types[FORM] = {"schema": closed({"image": images})}
    body = {"required": True, "content": content_types}
    responses = _answers(content, 404, 408, 409, 410, 413, 415, 503)
    return {"post": {"summary": summary, "parameters": parameters, "requestBody": body, "responses": responses}}


def _paths() -> Schema:
    base, one = "/v1/products/{product}", "/v1/products/{product}/verdicts/{id}"
    png = {"image/png": _binary()}
    maps = {**png, "application/x-npy": _binary()}
    scored = {_JSON: {"schema": {"anyOf": [refers("Scored"), refers("Results")]}}, **maps}
    change = (404, 408, 409, 413, 415, 503)
    filters = [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, "verdicts of a page; 50 without it"),
        _query("before", {"type": "string"}, "`next` of the page before"),
        _query("is_anomalous", _FLAG, "only such verdicts"),
        _query("mark", {"enum": list(MARKS)}, "only verdicts with it"),
        _query("version", _WHOLE, "only those of this version"),
        _query("since", {"type": "number"}, "seconds since 1970"),
        _query("until", {"type": "number"}, "seconds since 1970"),
        _query("text", {"type": "string", "maxLength": 200}, _SEARCH),
    ]
    mark = {"type": ["string", "null"], "enum": [*MARKS, None]}
    settings = {
        "version": nullable("integer", minimum=1, description="without it: the one that judges"),
        "threshold": nullable("number"),
        "false_alarm_rate": nullable("number", minimum=LEAST_RATE, exclusiveMaximum=1, description="in place of threshold"),
        "least_area": nullable("number", minimum=0, description="pixels that a region must have"),
        "why": nullable("string", maxLength=2000, description="the reason, for the history"),
    }
    paths: dict[str, Any] = {
        f"{base}/score": _scoring("Score one image, or the images of a form", scored, ["none", "png", "npy"], "none", True),
        f"{base}/map": _scoring("Score an image; the map alone", maps, ["png", "npy"], "png", False),
        "/v1/products": _get("All products", _json("Products")),
        base: _get("A product", _json("Product"), 404, parameters=[PRODUCT]),
        f"{base}/versions": _get("Its versions", _json("Versions"), 404, parameters=[PRODUCT]),
        f"{base}/versions/{{number}}": {
            "delete": {
                "summary": "Remove the files of a version that was taught here and does not judge; it stays in the history",
                "parameters": [PRODUCT, NUMBER],
                "responses": _answers(_json("Version"), 404, 409, 503),
            }
        },
        f"{base}/activate": _post(
            "Have a version judge; null: none", _body(version=nullable("integer")), "Product", (*change, 410)
        ),
        f"{base}/settings": {
            **_get(
                "The settings of the version that judges, the newest last", _json("SettingsList"), 404, parameters=[PRODUCT]
            ),
            **_post("Judge otherwise from now on", _body(**settings), "Settings", change),
        },
        f"{base}/verdicts": _get("Verdicts, the newest first", _json("Verdicts"), 404, parameters=[PRODUCT, *filters]),
        one: _get("A verdict", _json("Verdict"), 404, parameters=[PRODUCT, IDENTIFIER]),
        f"{one}/image": _get("The image as it came", {"*/*": _binary()}, 404, parameters=[PRODUCT, IDENTIFIER]),
        f"{one}/map.png": _get("Its map, computed again", png, 404, 410, 503, parameters=[PRODUCT, IDENTIFIER]),
        f"{one}/mark": _post("What a person found; null takes it back", _body(mark=mark), "Verdict", change, IDENTIFIER),
        "/healthz": _get("Whether the process is alive", _json("Alive")),
        "/readyz": _get("Whether it takes images", _json("Ready")),
        "/metrics": _get("Figures for Prometheus", {"text/plain": {"schema": {"type": "string"}}}),
    }
    paths["/readyz"]["get"]["responses"]["503"] = {"description": "not now", "content": _json("Ready")}
    return paths


def _post(summary: str, body: Schema, answer: str, errors: tuple[int, ...], *more: Schema) -> Schema:
    responses = _answers(_json(answer), *errors)
    return {"post": {"summary": summary, "parameters": [PRODUCT, *more], "requestBody": body, "responses": responses}}
