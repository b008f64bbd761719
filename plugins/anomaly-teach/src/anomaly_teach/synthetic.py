"""Synthetic defects: holes, scratches, misplaced patches and stains of a known size, pasted on a normal image.

They stand in for defects that nobody has pictures of yet: they say which sizes a detector can see, not how well it finds the
real ones. Own code after the ideas of two papers: patches cut from elsewhere in the image, and thin ones ("scars"), are those
of Li et al., "CutPaste", CVPR 2021, https://arxiv.org/abs/2104.04015; stains with the outline of smooth noise those of
Zavrtanik et al., "DRAEM", ICCV 2021, https://arxiv.org/abs/2108.07610.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Draw = Callable[[np.random.Generator, Floats, tuple[int, int], int], Floats]

FINE = 4  # outlines are drawn so many times as large, and reduced: their edges are as soft as a lens makes them
TRIES = 8  # places that a patch may be cut from: the one that differs most is taken


def with_defect(
    image: NDArray[np.uint8], kind: str, size: int, rng: np.random.Generator, where: Bools | None = None
) -> tuple[NDArray[np.uint8], Bools]:
    """A copy of an image with one defect, at a place drawn at random.

    Args:
        image: uint8 (H, W, 3), at the resolution of the camera.
        kind: of :data:`KINDS`.
        size: side in pixels of a square of about the defect's area. A hole is as wide; a scratch three times as long, and a
            third as wide.
        rng: draws the place, direction, brightness and outline.
        where: bool (H, W), where the defect's centre may lie; None: anywhere.

    Returns:
        The copy, and bool (H, W): the pixels that changed.

    Raises:
        ValueError: the image is smaller than twice the defect, or nothing of it may have a defect.
    """
    height, width = image.shape[:2]
    if 2 * size > min(height, width):
        raise ValueError(f"a defect of {size} pixels does not fit into an image of {width}x{height}")
    inner = np.zeros((height, width), dtype=bool)
    inner[size : height - size, size : width - size] = True
    rows, columns = np.nonzero(inner if where is None else inner & where)
    if not len(rows):
        raise ValueError(f"no place in the region of interest has room for a defect of {size} pixels")
    number = int(rng.integers(len(rows)))
    row, column = int(rows[number]), int(columns[number])
    top, left = max(0, row - 2 * size), max(0, column - 2 * size)  # nothing changes farther away
    window = np.s_[top : row + 2 * size, left : column + 2 * size]
    pixels = image.copy()
    changed = KINDS[kind](rng, image[window].astype(np.float32), (row - top, column - left), size)
    pixels[window] = changed.round().clip(0, 255).astype(np.uint8)
    return pixels, (pixels != image).any(axis=2)


def _hole(rng: np.random.Generator, picture: Floats, place: tuple[int, int], size: int) -> Floats:
    """A round spot, darker or brighter than what it lies in."""
    outline = _drawn(picture, lambda draw, x, y, unit: draw.ellipse(_around(x, y, size / 2 * unit), fill=255), place)
    return _tinted(rng, picture, outline)


def _scratch(rng: np.random.Generator, picture: Floats, place: tuple[int, int], size: int) -> Floats:
    """A thin, straight line."""
    angle, reach = rng.uniform(0, np.pi), 1.5 * size
    across, down = reach * np.cos(angle), reach * np.sin(angle)

    def line(draw: ImageDraw.ImageDraw, x: float, y: float, unit: int) -> None:
        ends = (x - across * unit, y - down * unit, x + across * unit, y + down * unit)
        draw.line(ends, fill=255, width=max(unit, round(size / 3 * unit)))

    return _tinted(rng, picture, _drawn(picture, line, place))


def _patch(rng: np.random.Generator, picture: Floats, place: tuple[int, int], size: int) -> Floats:
    """A square piece of the neighbourhood that does not belong there."""
    top, left = place[0] - size // 2, place[1] - size // 2
    here = picture[top : top + size, left : left + size]
    tops = rng.integers(0, picture.shape[0] - size + 1, TRIES)
    lefts = rng.integers(0, picture.shape[1] - size + 1, TRIES)
    pieces = [picture[y : y + size, x : x + size] for y, x in zip(tops, lefts, strict=True)]
    piece = max(pieces, key=lambda one: float(np.abs(one - here).mean()))
    jitter = rng.choice([-1, 1]) * rng.uniform(20, 40)  # as the paper's: on a plain surface all pieces are alike
    result = picture.copy()
    result[top : top + size, left : left + size] = np.rot90(piece, int(rng.integers(1, 4))) + jitter
    return result


def _stain(rng: np.random.Generator, picture: Floats, place: tuple[int, int], size: int) -> Floats:
    """A ragged spot whose colour has shifted; the structure beneath stays visible."""
    height, width = picture.shape[:2]
    top, left, side = place[0] - size, place[1] - size, 2 * size
    noise = np.asarray(Image.fromarray(rng.standard_normal((5, 5)).astype(np.float32)).resize((side, side), 3))
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    # the noise bends the outline of a disc; the rank of its values, not a bound, gives the area that is asked for
    level = noise * 0.25 - np.hypot(x, y) / size
    outline = np.zeros((height, width), dtype=np.float32)
    outline[top : top + side, left : left + side] = level > np.sort(level, axis=None)[-(size * size) - 1]
    return _tinted(rng, picture, outline, strength=0.6)


KINDS: dict[str, Draw] = {"hole": _hole, "scratch": _scratch, "patch": _patch, "stain": _stain}


def _drawn(picture: Floats, draw: Callable[[ImageDraw.ImageDraw, float, float, int], object], place: tuple[int, int]) -> Floats:
    """What ``draw`` makes of a canvas, at a unit of ``FINE`` pixels: float32 (H, W) in [0, 1]."""
    height, width = picture.shape[:2]
    canvas = Image.new("L", (width * FINE, height * FINE))
    draw(ImageDraw.Draw(canvas), (place[1] + 0.5) * FINE, (place[0] + 0.5) * FINE, FINE)
    return np.asarray(canvas.reduce(FINE), dtype=np.float32) / np.float32(255)


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius - 1, y + radius - 1


def _tinted(rng: np.random.Generator, picture: Floats, outline: Floats, strength: float = 1.0) -> Floats:
    """The picture, within the outline (H, W) moved by 70 to 130 grey values to where there is more room: dark in what is
    bright, bright in what is dark; a little of one colour."""
    amount = outline[..., None]
    mean = float((picture * amount).sum() / max(3 * float(outline.sum()), 1e-6))
    step = rng.uniform(70, 130) * strength * (-1 if mean > 127 else 1)
    shift = (step * rng.uniform(0.85, 1.15, 3)).astype(np.float32)
    return picture + amount * shift
