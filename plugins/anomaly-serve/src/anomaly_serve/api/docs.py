"""``/openapi.json``, and the same as a page at ``/docs``, without a script and with nothing from another host."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from anomaly_serve.answers import Json
from anomaly_serve.api.document import document

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def docs_routes() -> list[Route]:
    """The document in both forms."""
    return [
        Route("/openapi.json", _document, methods=["GET"]),
        Route("/docs", _page, methods=["GET"]),
        Route("/docs.css", _styles, methods=["GET"]),
    ]


def _document(request: Request) -> Response:
    return Json(document())


def _page(request: Request) -> Response:
    return HTMLResponse(_rendered(request.scope.get("root_path", "")), headers=_HEADERS)


def _styles(request: Request) -> Response:
    return Response((files("anomaly_serve.api") / "docs.css").read_bytes(), media_type="text/css", headers=_HEADERS)


@lru_cache(maxsize=4)
def _rendered(base: str) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True)
    environment.filters |= {"kind": kind_of, "names": names_in}
    template = environment.from_string((files("anomaly_serve.api") / "docs.html").read_text(encoding="utf-8"))
    return template.render(document=document(), base=base)


def kind_of(schema: dict[str, Any]) -> str:
    """The values that a schema allows, in words."""
    if "enum" in schema:
        return ", ".join("null" if value is None else str(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    kinds = schema.get("type", "any")
    words = [kinds] if isinstance(kinds, str) else kinds
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([" or ".join(words), *bounds])


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "maxLength": "up to"}


def names_in(schema: Any) -> list[str]:
    """The named schemas that a schema refers to."""
    if isinstance(schema, dict):
        own = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
        return own + [name for value in schema.values() for name in names_in(value)]
    return [name for value in schema for name in names_in(value)] if isinstance(schema, list) else []
