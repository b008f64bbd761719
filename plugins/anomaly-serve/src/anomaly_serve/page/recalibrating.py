"""A threshold that recent images propose, for a person to accept: the part *When the line has changed* of *Set*."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from anomaly_serve.answers import who_of
from anomaly_serve.page.asked import Body, changing, number_of, text_of, whole_of
from anomaly_serve.page.inspecting import product_of
from anomaly_serve.page.render import figure, moment
from anomaly_serve.teaching import Teaching
from anomaly_serve.teaching.proposals import LAST, Proposed, Seen

_MOST = 5_000  # images that a proposal may rest on
_SHOWN = 60


def routes(api: str) -> list[BaseRoute]:
    """Beside ``api``."""
    base = api.rsplit("/", 1)[0] + "/recalibrate"
    return [
        Route(base, _state, methods=["GET"]),
        Route(base, changing(_propose), methods=["POST"]),
        Route(f"{base}/accept", changing(_accept), methods=["POST"]),
        Route(f"{base}/reject", changing(_reject), methods=["POST"]),
    ]


def _teaching(request: Request) -> Teaching:
    teaching: Teaching = request.app.state.service.teaching
    return teaching


def _state(request: Request) -> Response:
    """The proposal that waits, and the job that makes one."""
    teaching, product = _teaching(request), product_of(request)
    jobs = [job for job in teaching.jobs.of(product) if job.facts["kind"] == "recalibrate"]
    proposal = teaching.proposal(product)
    last = jobs[0] if jobs else None
    job = last and {"id": last.id, "state": last.state, "message": last.message, "progress": last.progress}
    return JSONResponse({"job": job, "proposal": _row(proposal) if proposal else None})


def _row(one: Proposed) -> dict[str, Any]:
    new = one.calibration
    return {
        "time": moment(one.time),
        "count": one.count,
        "words": one.words,
        "warning": one.warning,
        "old": figure(one.old_threshold),
        "new": None if new is None else figure(new.threshold),
        "promise": "" if new is None else new.promise(),
        "left_out": [_image(seen) for seen in one.left_out[:_SHOWN]],
        "left_out_count": len(one.left_out),
        "changes": [_image(seen) for seen in one.changes[:_SHOWN]],
        "changes_count": len(one.changes),
    }


def _image(seen: Seen) -> dict[str, Any]:
    words = {True: "Alarm", False: "Normal", None: "no verdict"}
    return {
        "id": seen.id,
        "name": seen.name,
        "score": figure(seen.score),
        "old": words[seen.old],
        "new": words[seen.new],
    }


def _propose(request: Request, body: Body) -> Response:
    count, per_thousand = whole_of(body, "count") or LAST, number_of(body, "per_thousand")
    if not 1 <= count <= _MOST:
        raise HTTPException(422, f"count: give 1 to {_MOST:,} images.")
    if per_thousand is not None and not 0 < per_thousand < 1000:
        raise HTTPException(422, "per_thousand: give false alarms in 1,000 normal images, above 0 and below 1,000.")
    rate = None if per_thousand is None else per_thousand / 1000
    job = _teaching(request).recalibrate(product_of(request), who_of(request), count, rate)
    return JSONResponse({"job": job.id}, 202)


def _accept(request: Request, body: Body) -> Response:
    _teaching(request).accept(product_of(request), who_of(request), text_of(body, "why"))
    return JSONResponse({"accepted": True})


def _reject(request: Request, body: Body) -> Response:
    _teaching(request).reject(product_of(request), who_of(request))
    return JSONResponse({"accepted": False})
