"""Pictures of verdicts: thumbnails, images that a browser can show, and maps as overlays; each made once and kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from anomaly_core import AnomalyError, Calibration, ImageReader
from anomaly_serve.pictures import extent_of
from anomaly_serve.products import LoadedVersion
from anomaly_serve.records import Judgement

if TYPE_CHECKING:
    from anomaly_serve.service import Service

THUMBNAIL = 160  # pixels of the longer side
_LARGEST = 2400  # pixels of the longer side of what is sent anew; files that a browser shows are sent as they are
_LARGEST_MAP = 1200  # pixels of the longer side of an overlay
_SHOWN = ("image/png", "image/jpeg", "image/webp", "image/gif")
_MOST_BYTES = 16 << 20  # of a file that is sent as it is
NOTHING = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3"><rect width="4" height="3" fill="#8a949e" opacity=".35"/>'
    b'<path d="M.4.4l3.2 2.2M3.6.4L.4 2.6" stroke="#8a949e" stroke-width=".06"/></svg>'
)

# Of the overlay: (place on the scale, red, green, blue, opacity). 0 is a typical normal pixel, 0.5 the map threshold.
_COLOURS = np.array(
    [(0, 255, 214, 0, 0), (0.25, 255, 214, 0, 0), (0.5, 255, 190, 0, 140), (0.75, 240, 70, 30, 210), (1, 190, 0, 70, 235)]
)

_Held = TypeVar("_Held")


class _Recent(Generic[_Held]):
    """What was made lately, up to so many bytes; the same thing is made by one thread at a time."""

    def __init__(self, most: int, size: Callable[[_Held], int]) -> None:
        self._most, self._size = most, size
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._making = [threading.Lock() for _ in range(8)]

    def get(self, key: Hashable, make: Callable[[], _Held]) -> _Held:
        if (found := self._found(key)) is not None:
            return found
        with self._making[hash(key) % len(self._making)]:
            if (found := self._found(key)) is not None:
                return found
            made = make()
            with self._lock:
                self._held[key] = made
                self._bytes += self._size(made)
                while self._bytes > self._most and len(self._held) > 1:
                    self._bytes -= self._size(self._held.popitem(last=False)[1])
            return made

    def _found(self, key: Hashable) -> _Held | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)


@dataclass(frozen=True)
class Overlay:
    """A map as a picture.

    Attributes:
        png: RGBA, a pixel a cell of the map; clear where the map has what normal images have.
        frame: (left, top, width, height) of it in the image's pixels; it may reach beyond the image.
    """

    png: bytes
    frame: tuple[float, float, float, float]


class Pictures:
    """Of one service; thread-safe, and slow: call it in a thread."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._thumbnails = _Recent[tuple[bytes, str]](32 << 20, lambda made: len(made[0]))
        self._overlays = _Recent[tuple[Overlay | None]](32 << 20, lambda made: 64 if made[0] is None else len(made[0].png))

    def thumbnail(self, identifier: str) -> tuple[bytes, str]:
        """(bytes, media type); a picture of nothing where no image is kept, or it cannot be read any more."""
        return self._thumbnails.get(identifier, lambda: self._thumbnail(identifier))

    def _thumbnail(self, identifier: str) -> tuple[bytes, str]:
        kept = self._service.store.image(identifier)
        try:
            image = None if kept is None else _decoded(kept[0])
        except AnomalyError:
            image = None
        if image is None:
            return NOTHING, "image/svg+xml"
        image.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=2.0)
        return _saved(image, "JPEG", quality=82), "image/jpeg"

    def region(self, judgement: Judgement, number: int) -> tuple[bytes, str]:
        """(bytes, media type) of a region with its outline and what is around it; a picture of nothing where none is kept."""
        return self._thumbnails.get((judgement.id, number), lambda: self._region(judgement, number))

    def _region(self, judgement: Judgement, number: int) -> tuple[bytes, str]:
        regions, kept = judgement.regions or (), self._service.store.image(judgement.id)
        if kept is None or not 0 <= number < len(regions):
            return NOTHING, "image/svg+xml"
        image, region = _decoded(kept[0]), regions[number]
        left, top, right, bottom = region["box"]
        side = max(48, 2 * (right - left), 2 * (bottom - top))  # twice as wide as the region, and square
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        cut = image.crop((x, y, x + side, y + side)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
        outline = [((across - x) * THUMBNAIL / side, (down - y) * THUMBNAIL / side) for across, down in region["polygon"]]
        if len(outline) > 1:
            for colour, width in (("#000000", 5), ("#5ff2ff", 2)):
                ImageDraw.Draw(cut).line([*outline, outline[0]], colour, width, joint="curve")
        return _saved(cut, "JPEG", quality=82), "image/jpeg"

    def image(self, identifier: str) -> tuple[bytes, str]:
        """(bytes, media type) of the image, upright where the browser heeds EXIF; a picture of nothing where none is kept."""
        kept = self._service.store.image(identifier)
        if kept is None:
            return NOTHING, "image/svg+xml"
        data, media = kept
        if media in _SHOWN and len(data) <= _MOST_BYTES:
            return data, media
        image = _decoded(data)
        image.thumbnail((_LARGEST, _LARGEST), reducing_gap=2.0)
        return _saved(image, "PNG", compress_level=1), "image/png"

    def overlay(self, judgement: Judgement) -> Overlay | None:
        """The map of a verdict over its image; None without a kept image, or where the detector has no maps."""
        return self._overlays.get(judgement.id, lambda: (self._overlay(judgement),))[0]

    def _overlay(self, judgement: Judgement) -> Overlay | None:
        values = self._service.map_of(judgement)
        if values is None:
            return None
        version = self._service.product(judgement.product).load(judgement.version)
        settings = self._service.store.settings(judgement.product, judgement.version)
        held = next((one for one in settings if one.number == judgement.settings), version.settings)
        return overlay_of(values, version, judgement, held.calibration)


def overlay_of(
    values: NDArray[np.float32], version: LoadedVersion, judgement: Judgement, calibration: Calibration | None = None
) -> Overlay:
    """The map (h, w) of a verdict in colours, by the map threshold of a calibration; None: that which the version has now."""
    left, top, right, bottom = extent_of(values, version, judgement)
    if version.input_spec is None:  # the map has the image's own pixels, and may be padded
        values = values[: round(bottom - top), : round(right - left)]
    step = max(1, -(-max(values.shape) // _LARGEST_MAP))  # a map of an image's own pixels would be a large picture
    height, width = values.shape
    values = np.maximum.reduceat(np.maximum.reduceat(values, range(0, height, step), axis=0), range(0, width, step), axis=1)
    down, across = (cells * step / side for cells, side in zip(values.shape, (height, width), strict=True))
    frame = (left, top, across * (right - left), down * (bottom - top))
    calibration = calibration or version.settings.calibration
    return Overlay(_coloured(values, calibration.map_low, calibration.map_threshold), frame)


def with_overlay(data: bytes, overlay: Overlay | None, side: int) -> bytes:
    """A JPEG of an image file, its longer side of so many pixels, with a map over it."""
    image = _decoded(data)
    scale = side / max(image.size)
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), reducing_gap=2.0)
    if overlay is not None:
        left, top, width, height = (value * scale for value in overlay.frame)
        with Image.open(BytesIO(overlay.png)) as colours:
            layer = colours.convert("RGBA").resize((max(1, round(width)), max(1, round(height))), Image.Resampling.BILINEAR)
        small.paste(layer, (round(left), round(top)), layer)
    return _saved(small, "JPEG", quality=85)


def _decoded(data: bytes) -> Image.Image:
    """As detectors of this project read files: upright, 8 bits a channel, RGB."""
    return ImageReader().read(BytesIO(data), known=True)


def _coloured(values: NDArray[np.float32], low: float | None, threshold: float | None) -> bytes:
    """The map (h, w) in colours: clear up to a typical normal pixel, yellow at the map threshold, red from twice as far."""
    finite = np.nan_to_num(values.astype(np.float64), nan=-np.inf, neginf=-np.inf, posinf=float(np.finfo(np.float32).max))
    seen = finite[np.isfinite(finite)]
    bottom = low if low is not None else float(np.median(seen)) if seen.size else 0.0
    middle = threshold if threshold is not None and threshold > bottom else float(seen.max(initial=bottom + 1))
    scale = np.clip((np.maximum(finite, bottom) - bottom) / max(2 * (middle - bottom), 1e-12), 0, 1)
    table = np.stack([np.interp(np.linspace(0, 1, 256), _COLOURS[:, 0], channel) for channel in _COLOURS[:, 1:].T], axis=1)
    return _saved(Image.fromarray(table.round().astype(np.uint8)[(scale * 255).round().astype(np.uint8)]), "PNG")


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
