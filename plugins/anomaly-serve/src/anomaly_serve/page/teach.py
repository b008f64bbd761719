"""*Teach*: images of good parts, a fit in the background, a trial, and then a version that judges."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from anomaly_core import AnomalyError, PluginError, preset_names, registry
from anomaly_serve.answers import who_of
from anomaly_serve.page import recalibrating, teach_images, teach_versions
from anomaly_serve.page.asked import Body, changing, text_of, whole_of
from anomaly_serve.page.inspecting import product_of
from anomaly_serve.page.render import moment, render
from anomaly_serve.records import Job
from anomaly_serve.teaching import Fit, Teaching
from anomaly_serve.teaching.advice import Advice, Input, input_for
from anomaly_serve.teaching.jobs import AGAIN
from anomaly_serve.teaching.members import Limits
from anomaly_serve.teaching.process import tail
from anomaly_serve.teaching.teaching import MODEL, PRESET

if TYPE_CHECKING:
    from anomaly_serve.service import Service

_JOBS = 8  # that are shown
YES = "--yes"  # which the message of `anomaly extend` asks for
_KINDS = {"fit": "Teach a version", "extend": "Add images", "trial": "Try a version", "recalibrate": "Propose a threshold"}


def routes(service: Service) -> list[BaseRoute]:
    """The page, its images, its jobs, and the versions that come of them."""
    if service.teaching is None:
        options = service.options
        limits = Limits(pixels=options.max_pixels, quota=options.teach_quota, versions=options.keep_versions)
        folder = Path(service.store.folder) / "teach"
        service.teaching = Teaching(service, folder, service.options.teach_from, limits).start()
    api = "/api/products/{product}/teach"
    return [
        Route("/teach", _new_product),
        Route("/api/products", changing(_add_product), methods=["POST"]),
        Route("/products/{product}/teach", _page),
        Route(f"{api}/state", _state),
        Route(f"{api}/fit", changing(_fit), methods=["POST"]),
        Route(f"{api}/extend", changing(_extend), methods=["POST"]),
        Route(f"{api}/jobs/{{id}}/cancel", changing(_cancel), methods=["POST"]),
        Route(f"{api}/jobs/{{id}}/again", changing(_again), methods=["POST"]),
        Route(f"{api}/jobs/{{id}}/log", _log),
        *teach_images.routes(api),
        *teach_versions.routes(api),
        *recalibrating.routes(api),
    ]


def teaching_of(request: Request) -> Teaching:
    """What teaches the products of this service."""
    teaching: Teaching = request.app.state.service.teaching
    return teaching


def _new_product(request: Request) -> Response:
    return render(request, "new-product.html", taken="", refusal="")


def _add_product(request: Request, body: Body) -> Response:
    name, service = text_of(body, "name", 200), request.app.state.service
    is_form = not request.headers.get("content-type", "").startswith("application/json")
    refusal = ""
    if name in service.store.products():
        refusal = f"There is a product {name} already."
    else:
        try:
            service.add_product(name, who_of(request))
        except AnomalyError as error:
            refusal = str(error)
    if refusal and is_form:
        return render(request, "new-product.html", status=422, taken=name, refusal=refusal)
    if refusal:
        raise HTTPException(422, refusal)
    if is_form:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/products/{quote(name, safe='')}/teach", 303)
    return JSONResponse({"product": name}, 201)


def _page(request: Request) -> Response:
    product, teaching = product_of(request), teaching_of(request)
    return render(
        request,
        "teach.html",
        product=product,
        section="teach",
        methods=_methods(),
        model=MODEL,
        preset=PRESET,
        places=[{"root": place.root, "below": place.below, "name": name} for place, name in teaching.folders.places()],
        limits=teaching.sets.limits,
        versions=teach_versions.listed(teaching, product),
    )


def _methods() -> dict[str, list[str]]:
    """Methods that can be fitted to a few images, with their presets: the default first, then those with a preset ``edge``."""
    quick: dict[str, list[str]] = {}
    for name in sorted(registry.models):
        with suppress(PluginError):  # one that is broken is no choice
            presets = preset_names(registry.models[name])
            if PRESET in presets:
                quick[name] = presets
    first = [name for name in (MODEL, "subspace", "padim") if name in quick]
    return {name: quick[name] for name in [*first, *(name for name in quick if name not in first)]}


def _state(request: Request) -> Response:
    """All that changes while the page is open."""
    product, teaching = product_of(request), teaching_of(request)
    found, draft = teaching.advice(product), teaching.draft(product)
    defect = whole_of(dict(request.query_params), "defect")
    return JSONResponse(
        {
            "normal": found.count,
            "abnormal": found.defects,
            "revision": draft.revision(),
            "advice": _advice(found, defect),
            "waiting": teaching.uncollected(product),
            "watched": teach_images.watched(teaching, product),
            "jobs": [job_row(teaching, job) for job in teaching.jobs.of(product)[:_JOBS]],
            "extend": _extension(teaching, product),
        }
    )


def _advice(found: Advice, defect: int | None) -> dict[str, Any]:
    fitting = None if found.size is None or defect is None else input_for(found.size, defect)
    return {
        "enough": found.enough,
        "blocked": found.blocked,
        "size": None if found.size is None else f"{found.size[1]} × {found.size[0]}",
        "different": found.different,
        "others": [f"{one.name} ({one.size[1]} × {one.size[0]})" for one in found.others],
        "inputs": [_input(one) for one in found.inputs],
        "fitting": None if fitting is None else _input(fitting)["value"],
        "none_fits": defect is not None and found.size is not None and fitting is None,
    }


def _input(one: Input) -> dict[str, Any]:
    size = "the preset's own" if one.size is None else f"{one.size[1]} × {one.size[0]}"
    pixels = "1 pixel" if one.smallest == 1 else f"{one.smallest} pixels"
    time = "" if one.cost <= 1 else f", about {one.cost:.1f} times the time"
    value = "" if one.size is None else f"{one.size[0]},{one.size[1]}"
    return {"value": value, "words": f"{size}: shows defects from about {pixels}{time}", "smallest": one.smallest}


def _extension(teaching: Teaching, product: str) -> dict[str, Any]:
    """Whether the version that judges can learn the new images in seconds."""
    active = teaching.store.active(product)
    if active is None:
        return {"version": None, "count": 0, "why_not": ""}
    try:
        return {"version": active.number, "count": len(teaching.new_for(product, active.number)), "why_not": ""}
    except AnomalyError as error:
        return {"version": active.number, "count": 0, "why_not": str(error)}


def job_row(teaching: Teaching, job: Job) -> dict[str, Any]:
    """A job as the page shows it."""
    what = _KINDS[job.facts["kind"]]
    if job.facts["kind"] == "extend":
        what = f"{what} to version {job.facts['parent']}"
    elif job.facts["kind"] == "fit":
        what = f"{what} ({job.facts['model']}, {job.facts['preset']})"
    return {
        "id": job.id,
        "what": what,
        "kind": job.facts["kind"],
        "state": job.state,
        "progress": job.progress,
        "message": job.message.replace(f"give {YES}", "have them learnt all the same"),
        "who": job.who,
        "time": moment(job.created),
        "version": job.facts.get("version") if job.state == "done" else None,
        "again": job.state in AGAIN and "again" not in job.facts,
        "odd": job.state == "failed" and job.facts["kind"] == "extend" and YES in job.message,
        "has_log": teaching.log_of(job).is_file(),
    }


def _fit(request: Request, body: Body) -> Response:
    options: dict[str, Any] = {}
    if size := text_of(body, "input", 20):
        options["model.image_size"] = _size(size)
    model, preset = text_of(body, "model", 100) or MODEL, text_of(body, "preset", 100) or PRESET
    fit = Fit(model, preset, options, text_of(body, "note"))
    product, teaching = product_of(request), teaching_of(request)
    return JSONResponse(job_row(teaching, teaching.fit(product, who_of(request), fit)), 202)


def _size(text: str) -> list[int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() and 8 <= int(part) <= 4096 for part in parts):
        raise HTTPException(422, f"input: {text!r} is no size such as 448,320 (height, width).")
    return [int(part) for part in parts]


def _extend(request: Request, body: Body) -> Response:
    product, teaching = product_of(request), teaching_of(request)
    number = whole_of(body, "version")
    if number is None:
        raise HTTPException(422, "version: say which one is to learn the new images.")
    accept = body.get("accept") is True
    job = teaching.extend(product, who_of(request), number, accept=accept, note=text_of(body, "note"))
    return JSONResponse(job_row(teaching, job), 202)


def _job(request: Request) -> Job:
    job = teaching_of(request).jobs.get(request.path_params["id"])
    if job.product != product_of(request):
        raise HTTPException(404, "There is no such job of this product.")
    return job


def _cancel(request: Request, body: Body) -> Response:
    teaching = teaching_of(request)
    return JSONResponse(job_row(teaching, teaching.jobs.cancel(_job(request).id)))


def _again(request: Request, body: Body) -> Response:
    teaching = teaching_of(request)
    return JSONResponse(job_row(teaching, teaching.again(_job(request).id, who_of(request))), 202)


def _log(request: Request) -> Response:
    teaching = teaching_of(request)
    text = teaching.work.public(tail(teaching.log_of(_job(request)), 200_000))
    return PlainTextResponse(text or "The job has printed nothing.")
