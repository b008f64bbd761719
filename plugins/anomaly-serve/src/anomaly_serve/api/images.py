"""Images in the body of a request: one as it is, raw pixels, or many in a form."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from anomaly_serve.api.asked import _whole, media_of
from anomaly_serve.bodies import body_of
from anomaly_serve.faults import ServiceError, TooLarge, Unusable, WrongMedia
from anomaly_serve.incoming import Pixels, from_raw

MOST_TOGETHER = 100  # images of a form
MOST_BODIES = 8  # times --max-bytes that a form may have
FILES = ("image/jpeg", "image/png", "image/bmp", "image/tiff", "image/webp", "image/gif")
RAW = "application/octet-stream"
FORM = "multipart/form-data"
COLOURS = {"RGB": 3, "BGR": 3, "GREY": 1}
RAW_OPTIONS = ("width", "height", "colour")
_HEADERS = {"width": "x-image-width", "height": "x-image-height", "colour": "x-image-colour", "channels": "x-image-channels"}


class Sent(NamedTuple):
    """An image of a form: its file's name, and its bytes or why they are not taken."""

    name: str
    image: bytes | ServiceError


def is_form(request: Request) -> bool:
    """Whether the body is a form, of any number of images."""
    return media_of(request) == FORM


async def image_in(request: Request, most: int) -> bytes | Pixels:
    """The only image of a body: the bytes of a file, or raw pixels as uint8 (H, W, 3) RGB or (H, W).

    Raises:
        WrongMedia: the body is of a type that is not read.
        Unusable: raw pixels of which something is missing or does not fit.
        TooLarge, TooSlow: as of every body.
    """
    media, raw = media_of(request), _raw(request)
    if media == RAW and raw:
        missing = [name for name in ("width", "height") if name not in raw]
        if missing:
            raise Unusable(f"raw pixels need their {' and '.join(missing)}: ?width=640&height=480&colour=RGB in the address.")
        width, height = (_whole(name, raw[name], 1, 1 << 20) for name in ("width", "height"))
        return from_raw(await body_of(request, most), width, height, _colour(raw))
    if raw:
        raise Unusable(
            f"{', '.join(raw)} would be ignored: a file says that itself. Leave it out, or send raw pixels as {RAW}."
        )
    if media and media != RAW and media not in FILES:
        step = "With curl: -H 'Content-Type: image/png' --data-binary @image.png."
        raise WrongMedia(f"a body of type {media[:60]!r} is not read. Send {', '.join(FILES)}, {RAW} or {FORM}. {step}")
    return await body_of(request, most)


def _raw(request: Request) -> dict[str, str]:
    """What is said of raw pixels, in the address or in headers."""
    said = {name: request.query_params[name] for name in RAW_OPTIONS if name in request.query_params}
    return {**{name: request.headers[key] for name, key in _HEADERS.items() if key in request.headers}, **said}


def _colour(raw: dict[str, str]) -> str:
    channels = raw.get("channels")
    if channels not in (None, "1", "3"):
        raise Unusable(f"X-Image-Channels={(channels or '')[:20]!r}: give 1 for grey pixels, or 3 for colours.")
    colour = raw.get("colour", "GREY" if channels == "1" else "RGB").upper()
    if colour not in COLOURS or (channels is not None and COLOURS[colour] != int(channels)):
        raise Unusable(
            f"colour={colour[:20]!r} does not fit. Give {', '.join(COLOURS)}, with as many channels as X-Image-Channels says."
        )
    return colour


async def images_in(request: Request, most: int) -> list[Sent]:
    """The images of a form, in order: parts by the name ``image``, each with at most ``most`` bytes.

    Raises:
        ServiceError: it is no form, or has none, more than 100, or something else.
        TooLarge: together they have more than 8 x ``most`` bytes.
    """
    if raw := _raw(request):
        raise Unusable(f"{', '.join(raw)} would be ignored: a form has files. Leave it out, or send one image as {RAW}.")
    whole = await body_of(request, MOST_BODIES * most)

    async def stream() -> AsyncGenerator[bytes, None]:
        yield whole

    try:
        parser = MultiPartParser(request.headers, stream(), max_files=MOST_TOGETHER, max_fields=0)
        form = await parser.parse()
    except MultiPartException as error:
        raise ServiceError(f"the form cannot be read: {error.message} Send 1 to {MOST_TOGETHER} files named image.") from None
    except Exception as error:  # of the parser, on headers that are none
        raise ServiceError(f"the form cannot be read ({type(error).__name__}). Send it as multipart/form-data.") from None
    try:
        return [await _sent(name, part, most) for name, part in form.multi_items()] or _none()
    finally:
        await form.close()


async def _sent(name: str, part: Any, most: int) -> Sent:
    if name != "image" or not isinstance(part, UploadFile):
        raise Unusable(f"the form has {name[:40]!r}, which would be ignored. Name each file image: curl -F image=@a.png.")
    if (part.size or 0) > most:
        return Sent(part.filename or "", TooLarge(f"the image has {part.size:,} bytes, and this service takes {most:,}."))
    return Sent(part.filename or "", await part.read())


def _none() -> list[Sent]:
    raise Unusable("the form has no image. Send each as a file named image: curl -F image=@a.png -F image=@b.png.")
