"""What the data set ``sample`` shows when nothing is wrong: two textures and two objects, each drawn anew from a generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """A normal picture, and what a defect needs to know of it.

    Attributes:
        picture: float32 (S, S, 3) in [0, 1], before light and sensor noise.
        beneath: float32 (S, S, 3), what shows where a part is missing.
        body: bool (S, S), where a defect may lie.
        part: bool (S, S), the part that may be missing, or None where any piece of the body may.
        gain: float32 (S, S, 1), the light that falls on the scene.
    """

    picture: Floats
    beneath: Floats
    body: Bools
    part: Bools | None
    gain: Floats


def floats(values: ArrayLike) -> Floats:
    """Single precision throughout: half the memory, and the same bytes whatever the intermediate type was."""
    return np.asarray(values, dtype=np.float32)


def smooth_noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> Floats:
    """Unit-variance noise of (S, S) that changes over S/cells pixels; ``cells`` is one number, or down and across."""
    down, across = (cells, cells) if isinstance(cells, int) else cells
    coarse = rng.standard_normal((max(down, 2), max(across, 2)), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)


def edge(distance: NDArray[np.floating[Any]], softness: float = 1.0) -> Floats:
    """1 inside (negative distance in pixels), 0 outside, with an antialiased rim."""
    return floats(np.clip(0.5 - distance / softness, 0, 1))


def mix(below: Floats, above: Floats | tuple[float, ...], amount: Floats) -> Floats:
    """``above`` over ``below`` by an amount of (S, S) in [0, 1]."""
    where = amount > 0
    weight = amount[where][:, None]
    mixed = np.array(below, dtype=np.float32)
    mixed[where] *= 1 - weight
    mixed[where] += np.broadcast_to(np.asarray(above, dtype=np.float32), mixed.shape)[where] * weight
    return mixed


def light(rng: np.random.Generator, size: int, strength: float) -> Floats:
    """The light of one shot: its level, and a slope across the picture of any direction."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.uniform(-strength, strength, 2)
    level = rng.uniform(1 - strength, 1 + strength)
    return floats(level * (1 + slope[0] * ramp[:, None, None] + slope[1] * ramp[None, :, None]))


def placed(rng: np.random.Generator, size: int, angle: float, shift: float) -> tuple[Floats, Floats]:
    """Coordinates (x, y) from -1 to 1 after a turn of up to ``angle`` radians and a shift of up to ``shift`` either way."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = ramp[None, :] - rng.uniform(-shift, shift), ramp[:, None] - rng.uniform(-shift, shift)
    turn = rng.uniform(-angle, angle)
    cos, sin = floats(np.cos(turn)), floats(np.sin(turn))
    return np.asarray(cos * x + sin * y, dtype=np.float32), np.asarray(cos * y - sin * x, dtype=np.float32)


def fabric(rng: np.random.Generator, size: int) -> Scene:
    """A plain weave of two yarns; its phase and its direction change from shot to shot."""
    x, y = placed(rng, size, 0.14, 1.0)
    sway = 0.010 * smooth_noise(rng, size, 5)
    warp, weft = (x + sway) * 16, (y + 0.010 * smooth_noise(rng, size, 5)) * 16  # threads from the centre
    round_warp, round_weft = np.abs(np.cos(np.pi * warp)), np.abs(np.cos(np.pi * weft))
    over = (np.floor(warp + 0.5) + np.floor(weft + 0.5)) % 2 == 0
    yarn = np.where(over, round_warp * (0.55 + 0.45 * round_weft), round_weft * (0.55 + 0.45 * round_warp))
    colours = np.where(over[..., None], floats([0.47, 0.53, 0.66]), floats([0.60, 0.62, 0.66]))
    fibre = 0.05 * smooth_noise(rng, size, size // 2)
    shade = (0.30 + 0.80 * yarn + fibre)[..., None]
    beneath = np.broadcast_to(floats([0.14, 0.14, 0.16]), (size, size, 3))
    everywhere = np.ones((size, size), dtype=bool)
    return Scene(floats(colours * shade), beneath, everywhere, None, light(rng, size, 0.25))


def wood(rng: np.random.Generator, size: int) -> Scene:
    """Boards with year rings that wander and pores that follow them; phase, direction and tint change."""
    x, y = placed(rng, size, 0.20, 1.0)
    wander = 0.22 * smooth_noise(rng, size, (3, 4)) + 0.03 * smooth_noise(rng, size, (6, 10))
    rings = (x + 0.4 * wander) * rng.uniform(6.5, 8.5) + 0.15 * y
    saw = rings - np.floor(rings)
    ring = saw**2 * np.clip((1 - saw) * 8, 0, 1)  # late wood darkens slowly and ends sharply
    pores = smooth_noise(rng, size, (size // 10, size // 2))
    tone = 1.0 - 0.58 * ring + 0.045 * pores + 0.03 * smooth_noise(rng, size, 8)
    tint = floats([0.76, 0.56, 0.37]) * floats(1 + 0.03 * rng.standard_normal(3))
    beneath = floats([0.20, 0.12, 0.07]) * (1 + 0.15 * smooth_noise(rng, size, size // 4))[..., None]
    everywhere = np.ones((size, size), dtype=bool)
    return Scene(floats(tint * tone[..., None]), floats(beneath), everywhere, None, light(rng, size, 0.25))


def nut(rng: np.random.Generator, size: int) -> Scene:
    """A hexagonal metal nut on a dark belt, turned by any angle and shifted."""
    x, y = placed(rng, size, np.pi, 0.14)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    half = size / 2  # pixels a unit
    sector = (angle + np.pi / 6) % (np.pi / 3) - np.pi / 6
    flat = radius * np.cos(sector)
    hexagon, hole = (flat - 0.62) * half, (0.30 - radius) * half
    body = np.maximum(hexagon, hole)
    brushed = smooth_noise(rng, 512, (4, 256))  # (turns, radii): grooves of the lathe
    rows = ((angle / (2 * np.pi)) % 1 * 511).astype(np.intp)
    columns = np.clip(radius * 360, 0, 511).astype(np.intp)
    shine = 0.10 * np.cos(2 * (angle - rng.uniform(0, np.pi)))
    metal = 0.62 + shine + 0.035 * brushed[rows, columns]
    metal += 0.16 * edge(np.abs(flat - 0.575) * half - 1.2, 2)  # the chamfer's rim
    metal -= 0.22 * edge(np.abs(radius - 0.345) * half - 2.0, 3)  # the countersink
    thread = 0.22 + 0.10 * np.sin(radius * 150)
    metal = np.where(radius < 0.33, thread, metal)
    steel = floats(metal[..., None] * floats([0.97, 1.0, 1.05]))
    belt = floats([0.17, 0.19, 0.18]) * (1 + 0.20 * smooth_noise(rng, size, size // 3))[..., None]
    belt = floats(belt * (1 - 0.35 * edge((flat - 0.66) * half, 14)[..., None]))  # contact shadow
    return Scene(mix(belt, steel, edge(body, 1.5)), belt, (hexagon < 0) & (hole < -6), None, light(rng, size, 0.22))


# Centre and half-size in units of half a picture, and colour, of what is soldered onto the board of ``circuit``.
CHIPS = (
    (-0.30, -0.28, 0.24, 0.20, (0.13, 0.13, 0.15)),
    (0.42, -0.42, 0.10, 0.20, (0.55, 0.42, 0.26)),
    (0.38, 0.12, 0.14, 0.09, (0.16, 0.15, 0.16)),
    (-0.50, 0.40, 0.09, 0.16, (0.60, 0.60, 0.57)),
    (0.02, 0.46, 0.16, 0.10, (0.13, 0.14, 0.20)),
    (0.50, 0.50, 0.11, 0.11, (0.55, 0.42, 0.26)),
)
TRACES = (
    (-0.30, 0.40, 0.10),
    (-0.10, 0.56, -0.12),
    (0.24, 0.60, 0.28),
    (-0.62, 0.20, -0.62),
    (-0.40, 0.62, 0.64),
    (0.05, 0.50, 0.22),
)

VIAS = tuple((cx, cy) for cx in (-0.70, -0.56, 0.70) for cy in (-0.70, 0.02, 0.70))


def circuit(rng: np.random.Generator, size: int) -> Scene:
    """A printed circuit: traces, pads and six components, turned a little and shifted."""
    x, y = placed(rng, size, 0.16, 0.12)
    half = size / 2

    def box(cx: float, cy: float, width: float, height: float) -> Floats:
        return floats(np.maximum(np.abs(x - cx) - width, np.abs(y - cy) - height) * half)

    outline = box(0, 0, 0.80, 0.80)
    bench = floats([0.60, 0.59, 0.57]) * (1 + 0.03 * smooth_noise(rng, size, size // 2))[..., None]
    weave = 0.02 * np.sin(x * 160) * np.sin(y * 160) + 0.015 * smooth_noise(rng, size, size // 3)
    board = floats(floats([0.10, 0.36, 0.22]) * (1 + weave * 3)[..., None])
    down = [box(position, other, 0.014, length) for position, length, other in TRACES]
    across = [box(other, position, length, 0.014) for position, length, other in TRACES]
    board = mix(board, (0.24, 0.52, 0.31), edge(np.minimum.reduce([*down, *across]), 1.5))
    via = floats(np.sqrt(np.minimum.reduce([(x - cx) ** 2 + (y - cy) ** 2 for cx, cy in VIAS])) * half)
    board = mix(board, (0.82, 0.68, 0.36), edge(via - 0.048 * half, 1.5))
    board = mix(board, (0.08, 0.09, 0.08), edge(via - 0.022 * half, 1.5))
    plastic = (1 + 0.06 * smooth_noise(rng, size, size // 2))[..., None]
    picture, beneath = board, board
    parts = []
    for cx, cy, width, height, colour in CHIPS:
        pins = edge(box(cx, cy, width + 0.05, height), 1.5) * (np.sin((y - cy) * 62) > 0)
        pads = mix(beneath, (0.80, 0.80, 0.78), floats(pins))
        beneath, picture = pads, mix(picture, (0.80, 0.80, 0.78), floats(pins))
        tone = floats(colour) * floats(1 + 0.04 * rng.standard_normal())
        surface = floats(tone * plastic)
        inside = box(cx, cy, width, height)
        picture = mix(picture, surface, edge(inside, 1.5))
        picture = mix(picture, (0.85, 0.85, 0.82), edge(np.abs(box(cx, cy, width * 0.55, 0.004)) - 1.0, 1.5) * 0.6)
        parts.append(inside < 0)
    on_board = edge(outline, 1.5)
    part = parts[int(rng.integers(len(parts)))]
    return Scene(mix(bench, picture, on_board), mix(bench, beneath, on_board), outline < -4, part, light(rng, size, 0.22))


SCENES: dict[str, Callable[[np.random.Generator, int], Scene]] = {
    "fabric": fabric,
    "wood": wood,
    "nut": nut,
    "circuit": circuit,
}
