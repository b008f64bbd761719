"""Pages that are one file: style, scripts and data inside, nothing fetched, nothing executed that is not ours."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from importlib import metadata
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import jinja2

from anomaly_report.figures.style import DARK, LIGHT

_FOLDER = files("anomaly_report") / "page"


def render(
    template: str, scripts: list[str], data: dict[str, Any], link: Callable[[str], str] | None = None, **values: Any
) -> bytes:
    """A page as a UTF-8 file.

    Args:
        template: name of the template.
        scripts: names of the script files, in order.
        data: what the scripts read, as JSON.
        link: makes a URL of a picture's path; :func:`relative_url` by default.
        values: what the template reads; escaped.

    The page's content security policy admits its own style and scripts by their hashes, pictures beside it and nothing else:
    text that gets past the escaping still cannot run or fetch anything.
    """
    head, body = _read("theme.js"), "\n".join(map(_read, scripts))
    # StrictUndefined: a misspelt name in a template is an error, not an empty place.
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["url"] = link or relative_url
    style = environment.get_template("page.css").render(light=LIGHT, dark=DARK)
    allowed = " ".join(map(_hash, (head, body)))
    policy = (
        f"default-src 'none'; img-src 'self' data: file:; style-src {_hash(style)}; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template(template).render(
        **values,
        version=metadata.version("anomaly-report"),
        policy=policy,
        style=style,
        head_script=head,
        body_script=body,
        data=script_json(data),
    )
    # File names that are no UTF-8 reach us as surrogates, which UTF-8 cannot hold.
    return text.encode("utf-8", "replace")


def script_json(values: Any) -> str:
    """JSON that a script element can hold whatever is in it: no ``<``, ``>`` or ``&``, and no character beyond ASCII."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def relative_url(path: str) -> str:
    """A path below the page as a link: percent-encoded, so that no name can be a scheme, a query or another host."""
    parts = path.replace(os.sep, "/").split("/")
    kept = [part for part in parts if part not in ("", ".")]
    return "/".join(quote(os.fsencode(part), safe="") for part in kept)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
