"""The versions of a product in *Teach*: what each learnt, what stands out in it, its trial, and whether it judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from anomaly_core import AnomalyError, Calibration, read_untrusted
from anomaly_serve.answers import who_of
from anomaly_serve.page import consequences
from anomaly_serve.page.asked import Body, changing, text_of, whole_of
from anomaly_serve.page.inspecting import product_of
from anomaly_serve.page.pictures import NOTHING, overlay_of, with_overlay
from anomaly_serve.page.render import figure, render
from anomaly_serve.records import Version
from anomaly_serve.teaching.trial import Row, Trial

if TYPE_CHECKING:
    from anomaly_serve.teaching import Teaching

_ROWS = 200  # of a trial that are shown; those that change come first
_SEEN = 200  # pixels of the longer side of an image with its map
_PATIENCE = 60.0  # seconds for one


def routes(api: str) -> list[BaseRoute]:
    """Below ``api``, the product's part of *Teach*."""
    one = f"{api}/versions/{{number:int}}"
    return [
        Route("/products/{product}/teach/versions/{number:int}", _page),
        Route(f"{one}/try", changing(_try), methods=["POST"]),
        Route(f"{one}/seen/{{key}}", _seen),
        Route(f"{one}/use", changing(_use), methods=["POST"]),
        Route(f"{one}/remove", changing(_remove), methods=["POST"]),
        Route(f"{api}/back", changing(_back), methods=["POST"]),
    ]


def listed(teaching: Teaching, product: str) -> list[dict[str, Any]]:
    """The versions, the newest first, each with a sentence on its trial."""
    before, needed = teaching.before(product), teaching.retention.needed(product)
    return [
        {
            "version": version,
            "tried": in_words(trial) if (trial := teaching.trial(product, version.number)) else "not tried yet",
            "takes_back_to": before if version.is_active else None,
            "is_removable": not version.removal and version.number not in needed,
        }
        for version in reversed(teaching.store.versions(product))
    ]


def in_words(trial: Trial) -> str:
    """What came of a trial, in one line."""
    found = trial.summary()
    parts = [f"tried on {_images(found['images'])}"]
    if trial.against is not None:
        parts.append(f"{found['changed']} would get another verdict than by version {trial.against}")
    if found["defects"]:
        before = f", {found['found_before']} before" if trial.against is not None else ""
        parts.append(f"{found['found']} of {found['defects']} known defects found{before}")
    if found["fine"]:
        parts.append(f"{found['alarms']} false alarms on {_images(found['fine'])} called fine")
    return "; ".join(parts)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _version(request: Request) -> tuple[Teaching, str, Version]:
    teaching, product, number = request.app.state.service.teaching, product_of(request), request.path_params["number"]
    version = teaching.store.version(product, number)
    if version is None:
        raise HTTPException(404, f"There is no version {number} of this product.")
    return teaching, product, version


def _page(request: Request) -> Response:
    teaching, product, version = _version(request)
    facts = teaching.work.taught(product, version.number) or {}
    images = teaching.work.set_of(product, version.number)
    trial = teaching.trial(product, version.number)
    against = teaching.store.version(product, trial.against) if trial and trial.against is not None else None
    draft = teaching.draft(product)
    fault, suspects = "", []
    try:
        suspects = [
            {
                "digest": member.digest,
                "name": member.name,
                "score": figure(score),
                "in_draft": draft.get(member.digest) is not None,
            }
            for member, score in teaching.suspects(product, version.number)
        ]
    except AnomalyError as error:
        fault = teaching.work.public(str(error))
    settings = teaching.store.settings(product, version.number)
    calibration = settings[-1].calibration
    return render(
        request,
        "version.html",
        product=product,
        section="teach",
        own=version,
        active=teaching.store.active(product),
        back=teaching.before(product),
        stays=teaching.retention.needed(product).get(version.number, ""),
        images=None if images is None else (len(images.members("normal")), len(images.members("abnormal"))),
        warnings=_warnings(facts.get("warnings", []), settings[0].calibration, calibration, bool(suspects)),
        suspects=suspects,
        fault=fault,
        promise=calibration.promise(),
        threshold=calibration.threshold,
        trial=trial,
        summary=trial.summary() if trial else {},
        tried=in_words(trial) if trial else "",
        rows=_rows(trial) if trial and not version.removal else [],
        is_against_there=against is not None and not against.removal,
        most=_ROWS,
    )


def _warnings(of_fit: list[str], first: Calibration, holds: Calibration, suspects_shown: bool) -> list[str]:
    """A fit's warnings; of its threshold, what is to be said of the one that holds, with a next step that the page has."""
    told = [text for text in of_fit if not (suspects_shown and "normal images that stand out" in text)]
    return [*filter(None, [consequences.warning(holds)]), *(text for text in told if text != first.warning)]


def _rows(trial: Trial) -> list[dict[str, Any]]:
    """The rows of a trial: known defects that are missed, then what changes, then what a person has marked, then the rest."""

    def urgency(row: Row) -> tuple[bool, bool, bool, float]:
        missed = bool(row.is_defect) and not row.new
        return (not missed, not row.changes, row.is_defect is None, -(row.new_score or 0.0))

    words = {True: "Alarm", False: "Normal", None: "–"}
    said = {True: "a defect", False: "fine", None: ""}
    return [
        {
            "key": row.key,
            "digest": row.key.removeprefix("set:") if row.key.startswith("set:") else "",
            "name": row.name,
            "said": said[row.is_defect],
            "learnt": row.is_learnt,
            "old": row.old,
            "new": row.new,
            "old_word": words[row.old],
            "new_word": words[row.new],
            "old_score": figure(row.old_score),
            "new_score": figure(row.new_score),
            "changes": row.changes,
            "outcome": _outcome(row),
            "fault": row.fault,
            "paired": row.changes or row.is_defect is not None,
        }
        for row in sorted(trial.rows, key=urgency)[:_ROWS]
    ]


def _outcome(row: Row) -> str:
    """What the new version makes of an image, where that matters."""
    if row.fault or row.new is None:
        return ""
    if row.is_defect:
        return "missed" if not row.new else "found now" if row.changes else "found"
    if row.is_defect is False and row.new:
        return "false alarm"
    return ("new alarm" if row.new else "no alarm any more") if row.changes else ""


def _try(request: Request, body: Body) -> Response:
    teaching, product, version = _version(request)
    job = teaching.try_out(product, who_of(request), version.number)
    return JSONResponse({"job": job.id}, 202)


def _seen(request: Request) -> Response:
    """An image of the trial with the map that a version has of it."""
    teaching, product, version = _version(request)
    key, service = request.path_params["key"], request.app.state.service
    if key.startswith("set:"):
        tried = whole_of(dict(request.query_params), "set_of") or version.number
        images = teaching.work.set_of(product, tried)
        member = images.get(key.removeprefix("set:")) if images else None
        content = read_untrusted(member.path) if member else None
    else:
        judgement = teaching.store.judgement(key)
        kept = teaching.store.image(key) if judgement is not None and judgement.product == product else None
        content = kept[0] if kept else None
    if content is None:
        return Response(NOTHING, media_type="image/svg+xml")
    scored = service.score(product, content, version=version.number, record=False).result(_PATIENCE)
    loaded = service.product(product).load(version.number)
    overlay = None if scored.map is None else overlay_of(scored.map, loaded, scored.judgement)
    picture = with_overlay(content, overlay, _SEEN)
    return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})


def _use(request: Request, body: Body) -> Response:
    teaching, product, version = _version(request)
    teaching.put_to_use(product, version.number, who_of(request), text_of(body, "note"))
    return JSONResponse({"version": version.number})


def _remove(request: Request, body: Body) -> Response:
    teaching, product, version = _version(request)
    removed = teaching.retention.remove(product, version.number, who_of(request))
    return JSONResponse({"version": removed.number, "removal": removed.removal})


def _back(request: Request, body: Body) -> Response:
    teaching = request.app.state.service.teaching
    return JSONResponse({"version": teaching.take_back(product_of(request), who_of(request))})
