"""The images of *Teach*: brought, watched, collected from the history, moved and removed."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from anomaly_core import DataError, ImageReader
from anomaly_serve.page.asked import Body, changing, text_of, whole_of
from anomaly_serve.page.inspecting import product_of
from anomaly_serve.page.uploads import File, received
from anomaly_serve.teaching.folders import Place
from anomaly_serve.teaching.members import Kind, Member, Refused, Taken

if TYPE_CHECKING:
    from anomaly_serve.teaching import Teaching

THUMBNAIL, LARGE = 160, 1600  # pixels of the longer side
_PAGE = 60  # images of one answer
_FOR_EVER = {"cache-control": "private, max-age=86400, immutable"}


def routes(api: str) -> list[BaseRoute]:
    """Below ``api``, the product's part of *Teach*."""
    return [
        Route(f"{api}/images", _list, methods=["GET"]),
        Route(f"{api}/images", _bring, methods=["POST"]),
        Route(f"{api}/images/{{digest}}", changing(_change), methods=["POST"]),
        Route(f"{api}/images/{{digest}}/thumbnail", _picture(THUMBNAIL)),
        Route(f"{api}/images/{{digest}}/image", _picture(LARGE)),
        Route(f"{api}/collect", changing(_collect), methods=["POST"]),
        Route(f"{api}/watch", changing(_watch), methods=["POST"]),
        Route(f"{api}/leave", changing(_leave), methods=["POST"]),
    ]


def watched(teaching: Teaching, product: str) -> dict[str, Any] | None:
    """The folder that is watched, in words."""
    one = teaching.folders.watched(product)
    if one is None:
        return None
    return {
        "root": one.place.root,
        "below": one.place.below,
        "kind": one.kind,
        "taken": one.taken,
        "again": one.again,
        "refused": [vars(refused) for refused in one.refused],
        "trouble": one.trouble,
    }


def _teaching(request: Request) -> Teaching:
    teaching: Teaching = request.app.state.service.teaching
    return teaching


def _kind(value: Any) -> Kind:
    if value == "normal":
        return "normal"
    if value == "abnormal":
        return "abnormal"
    raise HTTPException(422, "kind: images are normal or abnormal.")


def name_of(teaching: Teaching, member: Member) -> str:
    """What the page calls an image: one of the history as its sender did."""
    if member.judgement is None:
        return member.name
    judgement = teaching.store.judgement(member.judgement)
    return f"{(judgement and judgement.name) or 'without a name'} (history)"


def _row(teaching: Teaching, member: Member) -> dict[str, Any]:
    """An image as the page shows it."""
    height, width = member.size
    return {"digest": member.digest, "name": name_of(teaching, member), "kind": member.kind, "size": f"{width} × {height}"}


def _list(request: Request) -> Response:
    kind = _kind(request.query_params.get("kind", "normal"))
    start = max(0, whole_of(dict(request.query_params), "start") or 0)
    teaching = _teaching(request)
    members = teaching.draft(product_of(request)).members(kind)
    rows = [_row(teaching, member) for member in members[start : start + _PAGE]]
    return JSONResponse({"images": rows, "count": len(members)})


async def _bring(request: Request) -> Response:
    product, kind = await run_in_threadpool(product_of, request), _kind(request.query_params.get("kind", "normal"))
    draft = _teaching(request).draft(product)

    def begin(name: str) -> File:
        return draft.arrival(kind, name)

    return JSONResponse({"files": [_result(one) for one in await received(request, begin)]})


def _result(one: Taken | Refused) -> dict[str, Any]:
    if isinstance(one, Refused):
        return {"name": one.name, "taken": False, "reason": one.reason}
    return {"name": one.member.name, "taken": True, "again": one.again}


def _change(request: Request, body: Body) -> Response:
    """Move an image to ``kind``, or remove it where that is null."""
    draft, digest = _teaching(request).draft(product_of(request)), request.path_params["digest"]
    if body.get("kind") is None:
        draft.remove(digest)
    else:
        draft.move(digest, _kind(body["kind"]))
    return JSONResponse({"digest": digest, "kind": body.get("kind")})


def _picture(side: int) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        teaching, product, digest = _teaching(request), product_of(request), request.path_params["digest"]
        number = whole_of(dict(request.query_params), "version")
        images = teaching.draft(product) if number is None else teaching.work.set_of(product, number)
        member = images.get(digest) if images else None
        if member is None:
            raise HTTPException(404, "There is no such image.")
        try:
            picture = ImageReader().read(member.path, known=True)
        except DataError as error:
            raise HTTPException(404, "This image is not there any more.") from error
        picture.thumbnail((side, side), reducing_gap=2.0)
        file = BytesIO()
        picture.save(file, "JPEG", quality=85)
        return Response(file.getvalue(), media_type="image/jpeg", headers=_FOR_EVER)

    return endpoint


def _collect(request: Request, body: Body) -> Response:
    results = _teaching(request).collect(product_of(request))
    return JSONResponse({"files": [_result(one) for one in results]})


def _watch(request: Request, body: Body) -> Response:
    root = whole_of(body, "root")
    if root is None or root < 0:
        raise HTTPException(422, "root: choose a folder of the list.")
    teaching, product = _teaching(request), product_of(request)
    teaching.folders.watch(product, Place(root, text_of(body, "below")), _kind(body.get("kind", "normal")))
    return JSONResponse({"watched": watched(teaching, product)})


def _leave(request: Request, body: Body) -> Response:
    _teaching(request).folders.leave(product_of(request))
    return JSONResponse({"watched": None})
