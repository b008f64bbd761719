"""Heat maps as pictures: image, map, mask and overlay side by side, with one colour scale a run. Torch-free."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from anomaly_core import Calibration, write_whole

# Dark violet, magenta, orange, pale yellow: perceptually ordered, and readable by the colour-blind.
_ANCHORS = np.array(
    [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]],
    dtype=np.float64,
)
_CONTOUR = (0, 230, 230)
Box = Sequence[float]  # left, top, right, bottom
_NUMBERED = 20  # regions whose boxes are drawn
_GAP, _HEADER, _NARROWEST, _WIDEST = 4, 16, 96, 1024


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
    level = relative(anomaly_map, calibration)
    stops = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(level, stops, channel) for channel in _ANCHORS.T], axis=-1).round().astype(np.uint8)


def overlay(image: ArrayLike, anomaly_map: ArrayLike, calibration: Calibration | None) -> NDArray[np.uint8]:
    """(3, H, W) image in [0, 1] under its map, uint8 (H, W, 3); the higher, the more opaque.

    A cyan line surrounds what exceeds the map threshold; without a threshold there is none.
    """
    level = relative(anomaly_map, calibration)
    alpha = (0.75 * np.clip(level * 1.6 - 0.3, 0, 1))[..., None]
    blended = (1 - alpha) * _pixels(image) + alpha * heat_map(anomaly_map, calibration)
    if calibration is not None and calibration.map_threshold is not None:
        inside = np.asarray(anomaly_map)[0] > calibration.map_threshold
        padded = np.pad(inside, 1, mode="edge")
        surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        blended[inside & ~surrounded] = _CONTOUR
    return blended.round().astype(np.uint8)


def reduced(picture: ArrayLike, side: int = _WIDEST) -> NDArray[Any]:
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
) -> None:
    """Write image | reconstruction | map | mask | overlay as one PNG, whole or not at all; what there is not is left out.

    Args:
        image: float (3, H, W) in [0, 1].
        anomaly_map: float (1, H, W), or None: then the picture is image | mask.
        mask: bool (1, H, W), or None where nothing is known: its panel says so, for an empty mask would mean a good image.
        calibration: fixes the colour scale of a run; None stretches each map to its own range.
        title: a line below, such as the image's name and score.
        with_mask: False leaves the mask's panel out, for new images, of which nobody expects one.
        reconstruction: float (3, H, W) in [0, 1] of a method that reconstructs.
        boxes: of regions, in pixels of the map; the first 20 are drawn on the overlay and numbered from 1.

    Images of more than 1024 pixels a side are shown :func:`reduced`.

    Raises:
        RunError: the file cannot be written.
    """
    cells = None if anomaly_map is None else np.shape(anomaly_map)[-2:]
    image = reduced(image)
    mask = None if mask is None else reduced(mask)
    anomaly_map, reconstruction = (None if part is None else reduced(part) for part in (anomaly_map, reconstruction))
    panels: list[tuple[str, NDArray[np.uint8]]] = [("image", _pixels(image))]
    if reconstruction is not None:
        panels.append(("reconstruction", _pixels(reconstruction)))
    if anomaly_map is not None:
        panels.append(("anomaly map", heat_map(anomaly_map, calibration)))
    if with_mask:
        panels.append(("no mask" if mask is None else "mask", _mask_pixels(mask, panels[0][1].shape)))
    if anomaly_map is not None:
        panels.append(("overlay", overlay(image, anomaly_map, calibration)))
    # Small images are enlarged by whole pixels until a label fits above them.
    factor = math.ceil(_NARROWEST / image.shape[-1])
    height, width = image.shape[-2] * factor, image.shape[-1] * factor
    canvas = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, height + (2 if title else 1) * _HEADER), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (label, picture) in enumerate(panels):
        left = column * (width + _GAP)
        draw.text((left + 3, 2), label, fill="black")
        canvas.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (left, _HEADER))
    if cells is not None and boxes:
        corner, scale = (canvas.width - width, _HEADER), (width / cells[1], height / cells[0])
        _number(canvas, boxes[:_NUMBERED], corner, scale)
    if title:
        # Pillow's own font has no more than Latin letters.
        draw.text((3, _HEADER + height + 2), title.encode("ascii", "replace").decode(), fill="black")
    _write_whole(canvas, path)


def _number(canvas: Image.Image, boxes: Sequence[Box], corner: tuple[int, int], scale: tuple[float, float]) -> None:
    """Draw boxes and their numbers: scaled, with the corner as origin. A number stands above its box where there is room."""
    draw = ImageDraw.Draw(canvas)
    for number, box in reversed(list(enumerate(boxes, 1))):  # the first lies on top
        left, top, right, bottom = (round(edge * scale[i % 2]) + corner[i % 2] for i, edge in enumerate(box))
        draw.rectangle((left, top, right - 1, bottom - 1), outline="white")
        _, _, wide, high = draw.textbbox((0, 0), str(number))
        x = min(left, canvas.width - int(wide) - 4)
        y = top - int(high) - 3 if top - high - 3 >= corner[1] else top
        draw.rectangle((x, y, x + wide + 3, y + high + 2), fill="white")
        draw.text((x + 2, y + 1), str(number), fill="black")


def _write_whole(picture: Image.Image, path: Path) -> None:
    buffer, facts = io.BytesIO(), PngInfo()
    facts.add_text("Software", "anomaly-report")  # `anomaly predict --watch` knows our pictures by it
    picture.save(buffer, format="PNG", pnginfo=facts)
    write_whole(path, buffer.getvalue(), "Free some space or choose another folder.")


def _mask_pixels(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if mask is None:
        return np.full(shape, 200, dtype=np.uint8)
    return np.repeat(np.asarray(mask)[0].astype(np.uint8)[..., None] * 255, 3, axis=-1)


def _pixels(image: ArrayLike) -> NDArray[np.uint8]:
    return (np.clip(np.asarray(image, dtype=np.float32), 0, 1).transpose(1, 2, 0) * 255).round().astype(np.uint8)
