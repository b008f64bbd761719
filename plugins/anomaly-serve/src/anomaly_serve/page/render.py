"""Answers in HTML: a template inside the frame that all pages share."""

from __future__ import annotations

import math
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from anomaly_serve.answers import who_of

SECTIONS = (("inspect", "Inspect"), ("teach", "Teach"), ("set", "Set"), ("history", "History"))
_FOLDER = files("anomaly_serve.page") / "templates"


def render(
    request: Request, template: str, *, product: str | None = None, section: str = "", status: int = 200, **context: Any
) -> HTMLResponse:
    """A page. It asks the database, so call it from an endpoint that is no coroutine: those run in a thread.

    Args:
        template: a file of ``templates`` that extends ``base.html`` and fills its blocks ``title``, ``head`` (more styles and
            scripts) and ``content``.
        product: the product that it is about; the frame shows its version, its open alarms and the links to its sections.
        section: which of those this is: ``inspect``, ``teach``, ``set`` or ``history``.
        context: what the template reads; escaped. The frame's own names: ``base`` (the page's root, without a slash at its
            end), ``here`` (the product's), ``who``, ``product``, ``section``, ``version``, ``alarms``.
    """
    service = request.app.state.service
    base = request.scope.get("root_path", "").rstrip("/")
    frame: dict[str, Any] = {
        "base": base,
        "here": f"{base}/products/{quote(product, safe='')}" if product is not None else base,
        "who": who_of(request),
        "signed_in": bool(request.cookies.get("anomaly_token")),
        "product": product,
        "section": section,
        "sections": SECTIONS,
        "version": None,
        "alarms": [],
    }
    if product is not None:
        frame |= {"version": service.store.active(product), "alarms": service.store.alarms(product, open_only=True)}
    return HTMLResponse(environment().get_template(template).render({**frame, **context}), status)


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """StrictUndefined: a misspelt name in a template is an error, not an empty place."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (_FOLDER / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"figure": figure, "moment": moment, "iso": iso, "whole": whole}
    return made


def figure(value: float | None) -> str:
    """A score or a share to four digits, without an exponent where that is no longer."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not a number"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        text = f"{value:,.{min(digits, 6)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3e}"


def whole(count: float) -> str:
    """12,345."""
    return f"{count:,.0f}"


def moment(seconds: float) -> str:
    """In the plant's time, that of the service's machine: ``26 Nov 2026, 14:20:05``."""
    local = datetime.fromtimestamp(seconds).astimezone()
    return f"{local.day} {_MONTHS[local.month - 1]} {local:%Y, %H:%M:%S}"  # %b would follow the system's language


def iso(seconds: float) -> str:
    """For machines: ``2026-11-26T14:20:05+01:00``."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
