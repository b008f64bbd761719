"""FileFacts: what an image file is like besides its pixels, and what of that a user should be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from anomaly_core.imaging.values import Range, Stored, is_deep

if TYPE_CHECKING:
    from anomaly_core.imaging.reading import ImageReader

ORIENTATION = 0x0112  # the EXIF tag
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
UPRIGHT = {number: Image.Transpose[name] for number, name in enumerate(_TURNS, start=2)}  # what undoes its values


class FileFacts(NamedTuple):
    """What an image file is like.

    Attributes:
        size: (height, width) of the upright image.
        mode: depth and colour, such as ``8-bit grey``.
        format: Pillow's name of the file's format.
        pages: how many images the file holds.
        span: the lowest and highest stored value of an image of more than 8 bits a sample; None for others.
        declared: the span that such a file itself gives.
        exact: False where only the high bytes of such an image are known.
        transparent: whether a pixel is not opaque.
        fault: what is wrong with its metadata; empty if nothing is.
    """

    size: tuple[int, int]
    mode: str
    format: str
    pages: int = 1
    span: Range | None = None
    declared: Range | None = None
    exact: bool = True
    transparent: bool = False
    fault: str = ""


def oddities(facts: FileFacts, reader: ImageReader) -> Iterator[tuple[str, str, str]]:
    """(what, detail, advice) of everything about an image that its user should be told."""
    if facts.span and reader.range and not reader.range[0] <= facts.span[0] <= facts.span[1] <= reader.range[1]:
        yield (
            f"values outside the range of {reader.range[0]:g} to {reader.range[1]:g} that is read as black to white",
            f"{facts.span[0]:g} to {facts.span[1]:g}",
            "They are clipped, so what differs beyond that range is not seen. Take such images with the exposure of the "
            "training images, or fit with a wider data.range.",
        )
    if reader.sizes and facts.size not in reader.sizes:
        how = "A region in pixels now marks another part of what they show" if reader.roi else "All are resized alike"
        yield (
            f"another size than the {_listed(f'{width}x{height}' for height, width in reader.sizes)} of the training images",
            f"{facts.size[1]}x{facts.size[0]}",
            f"{how}, and another camera, distance or crop looks like a defect. Fit on such images.",
        )
    if facts.mode and reader.modes and facts.mode not in reader.modes:
        yield (
            f"another depth or colour than the {_listed(reader.modes)} of the training images",
            facts.mode,
            "That alone may look like a defect. Save all images alike.",
        )
    if facts.pages > 1:
        yield "several pages", f"{facts.pages} pages", f"Only page {reader.page} is read; data.page chooses another."
    if facts.transparent:
        yield (
            "transparent pixels",
            facts.format or "RGBA",
            "Transparency is dropped: the colours stored beneath it are what counts.",
        )
    if facts.fault:
        yield "unreadable metadata", facts.fault, "Their pixels are used as they are stored, and not turned."


def header(image: Image.Image) -> FileFacts:
    """What the header says, before the image is decoded; the size is not upright yet."""
    grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    depth = "float" if image.mode == "F" else "16-bit" if is_deep(image) else "8-bit"
    pages = int(getattr(image, "n_frames", 1))
    return FileFacts((image.height, image.width), f"{depth} {'grey' if grey else 'colour'}", image.format or "", pages)


def completed(
    facts: FileFacts, image: Image.Image, kept: Stored | None, turn: int, fault: str, size: tuple[int, ...]
) -> FileFacts:
    """The facts with what is known once the image of a (height, width) is decoded."""
    height, width = size
    facts = facts._replace(size=(width, height) if turn >= 5 else (height, width), fault=fault)
    if kept is not None:
        span = float(kept.values.min()), float(kept.values.max())
        return facts._replace(span=span, declared=kept.declared, exact=kept.exact)
    if image.mode in ("RGBA", "LA", "PA") or (image.mode == "P" and "transparency" in image.info):
        alpha = image.convert("RGBA").getchannel("A") if image.mode == "P" else image.getchannel("A")
        return facts._replace(transparent=bool(np.asarray(alpha).min() < 255))
    return facts


def orientation(image: Image.Image) -> tuple[int, str]:
    """How an image is turned, 1 (upright) to 8, and why that cannot be told, or nothing."""
    try:
        if written := image.info.get("exif"):
            Image.Exif().load(written)  # of a JPEG, Pillow itself hides that it cannot be read
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception as error:  # Pillow raises many kinds on damaged metadata, and the pixels may be sound
        return 1, f"{type(error).__name__}: {error}"
    return (turn if turn in UPRIGHT else 1), ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
