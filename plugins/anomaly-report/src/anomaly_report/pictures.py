"""Heat maps as pictures: image, map, mask and overlay side by side, with one colour scale a run. Torch-free."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from anomaly_core import Calibration, decoders, write_whole
from anomaly_report.frame import WIDEST, Frame
from anomaly_report.outlines import outlines, traced

# Dark violet, magenta, orange, pale yellow: perceptually ordered, and readable by the colour-blind.
_ANCHORS = np.array(
    [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]],
    dtype=np.float64,
)
_CONTOUR, _TRUE = (0, 230, 230), (90, 235, 60)
Box = Sequence[float]  # left, top, right, bottom
Colour = tuple[int, int, int]
Outlined = tuple[str, Colour, list[NDArray[np.float64]]]  # what lines surround, their colour, and the lines
# Of 9, for PNG files: 6 takes twice as long and saves a tenth of a photograph; 1 is a quarter faster and a quarter larger.
COMPRESSION = 4
_NUMBERED = 20  # regions whose boxes are drawn
_GAP, _HEADER, _NARROWEST = 4, 16, 96


def in_threads(draw: Callable[..., None], *arguments: Iterable[Any]) -> None:
    """Draw pictures, one for each of the arguments, several at a time: compressing and writing them needs no lock of Python's.
    The first failure is raised, and what has not begun by then is left out."""
    with ThreadPoolExecutor(decoders()) as pool:
        try:
            deque(pool.map(draw, *arguments), maxlen=0)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def safe_name(text: str) -> str:
    """A file name of letters, digits, dash, dot and underscore, at most 120 characters."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in text)[:120]


def relative(anomaly_map: ArrayLike, calibration: Calibration | None) -> NDArray[np.float64]:
    """(1, H, W) map -> (H, W) in [0, 1]: ordinary normal pixels 0, the calibrated map threshold 0.5, twice as far 1."""
    values = np.asarray(anomaly_map, dtype=np.float64)[0]
    low = high = None
    if calibration is not None and calibration.map_low is not None and calibration.map_threshold is not None:
        low, high = calibration.map_low, 2 * calibration.map_threshold - calibration.map_low
    if low is None or high is None or high <= low:
        low, high = float(values.min()), float(values.max())
    clipped: NDArray[np.float64] = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return clipped


def heat_map(anomaly_map: ArrayLike, calibration: Calibration | None) -> NDArray[np.uint8]:
    """(1, H, W) map -> uint8 (H, W, 3) colours."""
    return _coloured(relative(anomaly_map, calibration))


def overlay(image: ArrayLike, anomaly_map: ArrayLike, calibration: Calibration | None) -> NDArray[np.uint8]:
    """(3, H, W) image in [0, 1] under its map, uint8 (H, W, 3); the higher, the more opaque, but the image still shows."""
    level = relative(anomaly_map, calibration)
    return _blended(_pixels(image), level, _coloured(level))


def _coloured(level: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W) in [0, 1] -> uint8 (H, W, 3)."""
    stops = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(level, stops, channel) for channel in _ANCHORS.T], axis=-1).round().astype(np.uint8)


def _blended(pixels: NDArray[np.uint8], level: NDArray[np.float64], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = (0.55 * np.clip(level * 1.6 - 0.3, 0, 1))[..., None]
    blended: NDArray[np.float64] = (1 - alpha) * pixels + alpha * colours
    return blended.round().astype(np.uint8)


def reduced(picture: ArrayLike, side: int = WIDEST) -> NDArray[Any]:
    """(C, H, W) of at most ``side`` pixels a side for a picture: colours are averaged; of a map or a mask the maximum is kept,
    so that no small defect is lost.

    Args:
        picture: floats with three channels (an image), or one channel of floats (a map) or bools (a mask).
        side: the longest; a smaller picture comes back as it is.
    """
    values = np.asarray(picture)
    kind, longest = values.dtype, max(values.shape[-2:])
    if longest <= side:
        return values
    for axis, length in ((1, values.shape[1]), (2, values.shape[2])):
        parts = max(1, round(length * side / longest))
        starts = np.arange(parts) * length // parts
        if len(values) == 3:
            values = np.add.reduceat(values, starts, axis=axis) / np.expand_dims(np.diff(starts, append=length), (0, 3 - axis))
        else:
            values = np.maximum.reduceat(values, starts, axis=axis)
    return values.astype(kind)


def reduced_bytes(image: ArrayLike) -> NDArray[np.uint8]:
    """float (3, H, W) in [0, 1] -> uint8, :func:`reduced`: a quarter of the memory."""
    pixels: NDArray[np.uint8] = (np.clip(reduced(image), 0, 1) * 255).round().astype(np.uint8)
    return pixels


def save_panel(
    path: Path,
    image: ArrayLike,
    anomaly_map: ArrayLike | None,
    mask: ArrayLike | None,
    calibration: Calibration | None,
    title: str = "",
    *,
    with_mask: bool = True,
    reconstruction: ArrayLike | None = None,
    boxes: Sequence[Box] = (),
    frame: Frame | None = None,
) -> None:
    """Write image | reconstruction | map | mask | overlay as one PNG, whole or not at all; what there is not is left out.

    On the overlay a cyan line surrounds what exceeds the map threshold, a green one the mask.

    Args:
        image: float (3, H, W) in [0, 1].
        anomaly_map: float (1, H, W), or None: then the picture is image | mask.
        mask: bool (1, H, W), or None where nothing is known: its panel says so, for an empty mask would mean a good image.
        calibration: fixes the colour scale of a run; None stretches each map to its own range.
        title: a line below, such as the image's name and score.
        with_mask: False leaves the mask's panel out, for new images, of which nobody expects one.
        reconstruction: float (3, H, W) in [0, 1] of a method that reconstructs.
        boxes: of regions, in pixels of the map; the first 20 are drawn on the overlay and numbered from 1.
        frame: where the image lies in these arrays, and its proportions; None: they are the image.

    Images of more than 1024 pixels a side are shown :func:`reduced`.

    Raises:
        RunError: the file cannot be written.
    """
    frame = frame or Frame()
    seen = frame.cut(reduced(image))
    cells, true, again = (None if part is None else frame.cut(reduced(part)) for part in (anomaly_map, mask, reconstruction))
    width, height = _size(frame.size(*seen.shape[-2:]))
    pixels = _pixels(_resized(seen, width, height))
    panels: list[tuple[str, Image.Image]] = [("image", Image.fromarray(pixels))]
    lines: list[Outlined] = []
    if again is not None:
        panels.append(("reconstruction", Image.fromarray(_pixels(_resized(again, width, height)))))
    level = colours = None
    if cells is not None:
        level = relative(_resized(cells, width, height), calibration)
        colours = _coloured(level)
        panels.append(("anomaly map", Image.fromarray(colours)))
    if with_mask:
        panels.append(("no mask" if true is None else "mask", _mask_picture(true, width, height)))
    if cells is not None and level is not None and colours is not None:
        shown = Image.fromarray(_blended(pixels, level, colours))
        lines = _outlined(cells, true, calibration, shown.size)
        for _, colour, found in lines:
            traced(shown, found, colour)
        whole = np.asarray(anomaly_map).shape[-2:]
        _number(shown, [frame.placed(tuple(box), whole, width, height) for box in boxes[:_NUMBERED]])
        panels.append(("overlay", shown))
    column = max(width, _NARROWEST)
    canvas = Image.new("RGB", (len(panels) * (column + _GAP) - _GAP, height + (2 if title else 1) * _HEADER), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (label, picture) in enumerate(panels):
        left = number * (column + _GAP)
        draw.text((left + 3, 2), label, fill="black")
        canvas.paste(picture, (left, _HEADER))
    _explain(draw, lines, canvas.width - column + 3 + draw.textlength("overlay"), canvas.width)
    if title:
        # Pillow's own font has no more than Latin letters.
        draw.text((3, _HEADER + height + 2), title.encode("ascii", "replace").decode(), fill="black")
    _write_whole(canvas, path)


def _outlined(
    cells: NDArray[Any], mask: NDArray[Any] | None, calibration: Calibration | None, size: tuple[int, int]
) -> list[Outlined]:
    """The lines on an overlay of that (width, height): around what exceeds the map threshold, and around the mask."""
    found: list[Outlined] = []
    if calibration is not None and calibration.map_threshold is not None:
        found.append(("above threshold", _CONTOUR, outlines(cells[0].astype(np.float64), calibration.map_threshold, size)))
    if mask is not None:
        found.append(("mask", _TRUE, outlines(mask[0].astype(np.float64), 0.5, size)))
    return [one for one in found if one[2]]


def _size(size: tuple[int, int]) -> tuple[int, int]:
    """Small images are enlarged by whole pixels until a label fits above them, unless that makes them too high."""
    width, height = size
    factor = max(1, min(math.ceil(_NARROWEST / width), WIDEST // height))
    return width * factor, height * factor


def _resized(picture: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """(C, H, W) floats at the size of the picture: pixels repeated where that fits, else interpolated."""
    down, across = height / picture.shape[-2], width / picture.shape[-1]
    if down == across and down.is_integer() and len(picture) == 3:
        return picture.repeat(int(down), axis=-2).repeat(int(down), axis=-1)
    parts = [Image.fromarray(np.ascontiguousarray(part, np.float32)) for part in picture]
    return np.stack([np.asarray(part.resize((width, height), Image.Resampling.BILINEAR)) for part in parts])


def _explain(draw: ImageDraw.ImageDraw, lines: Sequence[Outlined], left: float, end: float) -> None:
    """What the lines are, above the overlay, where there is room."""
    for text, colour, _ in lines:
        right = left + 28 + draw.textlength(text)
        if right > end:
            return
        draw.line((left + 10, 8, left + 22, 8), fill="black", width=4)
        draw.line((left + 10, 8, left + 22, 8), fill=colour, width=2)
        draw.text((left + 26, 2), text, fill="black")
        left = right


def _number(picture: Image.Image, boxes: Sequence[Box]) -> None:
    """Draw boxes and their numbers. A number stands above its box where there is room."""
    draw = ImageDraw.Draw(picture)
    for number, box in reversed(list(enumerate(boxes, 1))):  # the first lies on top
        left, top, right, bottom = map(round, box)
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline="white")
        _, _, wide, high = draw.textbbox((0, 0), str(number))
        x = min(left, picture.width - int(wide) - 4)
        y = top - int(high) - 3 if top - high - 3 >= 0 else top
        draw.rectangle((x, y, x + wide + 3, y + high + 2), fill="white")
        draw.text((x + 2, y + 1), str(number), fill="black")


def _write_whole(picture: Image.Image, path: Path) -> None:
    buffer, facts = io.BytesIO(), PngInfo()
    facts.add_text("Software", "anomaly-report")  # `anomaly predict --watch` knows our pictures by it
    picture.save(buffer, format="PNG", pnginfo=facts, compress_level=COMPRESSION)
    write_whole(path, buffer.getvalue(), "Free some space or choose another folder.")


def _mask_picture(mask: NDArray[Any] | None, width: int, height: int) -> Image.Image:
    if mask is None:
        return Image.new("RGB", (width, height), (200, 200, 200))
    picture = Image.fromarray(mask[0].astype(np.uint8) * 255)
    return picture.resize((width, height), Image.Resampling.NEAREST).convert("RGB")


def _pixels(image: ArrayLike) -> NDArray[np.uint8]:
    return (np.clip(np.asarray(image, dtype=np.float32), 0, 1).transpose(1, 2, 0) * 255).round().astype(np.uint8)
