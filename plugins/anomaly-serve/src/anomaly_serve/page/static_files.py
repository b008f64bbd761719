"""Styles and scripts from the package, with types of our own: Windows may call a script plain text."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def static(request: Request) -> Response:
    """A file of ``static``. Browsers ask each time whether it has changed: an update is never mixed with what was before."""
    name = request.path_params["name"]
    content, tag = _content(name)
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])


@lru_cache(maxsize=64)
def _content(name: str) -> tuple[bytes, str]:
    file = files("anomaly_serve.page") / "static" / name
    if name.rpartition(".")[2] not in _TYPES or "/" in name or "\\" in name or not file.is_file():
        raise HTTPException(404, "There is no such file.")
    content = file.read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:20]}"'
