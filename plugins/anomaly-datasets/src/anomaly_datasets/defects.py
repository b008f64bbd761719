"""What can go wrong in the data set ``sample``: each defect changes a scene's picture and says which pixels it changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from anomaly_datasets.scenes import Bools, Floats, Scene, edge, floats, mix, smooth_noise

Defect = Callable[[np.random.Generator, Scene], tuple[Floats, Floats]]


def scratch(rng: np.random.Generator, scene: Scene) -> tuple[Floats, Floats]:
    """A slightly bent, bright groove with a dark flank."""
    size = len(scene.picture)
    direction = rng.uniform(0, 2 * np.pi)
    points = _walk(rng, _point(rng, scene.body), direction, size * rng.uniform(0.16, 0.34), bend=0.10)
    width = size * rng.uniform(0.009, 0.014)
    groove = _stroke(points, size, width) * scene.body
    flank = _stroke(points + size * 0.008, size, width) * scene.body
    changed = mix(scene.picture, scene.picture * 0.45, flank * 0.8)
    return mix(changed, 0.45 * scene.picture + 0.55 * floats([0.93, 0.93, 0.90]), groove), np.maximum(groove, flank)


def stain(rng: np.random.Generator, scene: Scene) -> tuple[Floats, Floats]:
    """A dark, ragged spot that has soaked in; the structure beneath stays visible."""
    amount = _blob(rng, scene, rng.uniform(0.055, 0.10), ragged=0.5) * scene.body
    tint = floats([0.62, 0.54, 0.46]) * floats(rng.uniform(0.85, 1.1))
    return mix(scene.picture, scene.picture * tint, amount), amount


def missing(rng: np.random.Generator, scene: Scene) -> tuple[Floats, Floats]:
    """A part that is not there, or a piece broken out: what lies beneath shows."""
    if scene.part is not None:
        amount = floats(scene.part)
    else:
        amount = _blob(rng, scene, rng.uniform(0.045, 0.075), ragged=0.25) * scene.body
    return mix(scene.picture, scene.beneath, amount), amount


def crack(rng: np.random.Generator, scene: Scene) -> tuple[Floats, Floats]:
    """A thin, dark, jagged line with a branch."""
    size = len(scene.picture)
    start, direction = _point(rng, scene.body), rng.uniform(0, 2 * np.pi)
    trunk = _walk(rng, start, direction, size * rng.uniform(0.16, 0.30), bend=0.55)
    branch = _walk(rng, trunk[len(trunk) // 2], direction + rng.choice([-1, 1]) * 0.8, size * 0.10, bend=0.5)
    width = size * rng.uniform(0.009, 0.013)
    amount = np.maximum(_stroke(trunk, size, width), _stroke(branch, size, width * 0.8)) * scene.body
    return mix(scene.picture, scene.picture * 0.22, amount), amount


def thread(rng: np.random.Generator, scene: Scene) -> tuple[Floats, Floats]:
    """A loose, curled thread on the surface, with its shadow."""
    size = len(scene.picture)
    points = _walk(
        rng, _point(rng, scene.body), rng.uniform(0, 2 * np.pi), size * rng.uniform(0.25, 0.45), bend=0.45, curl=0.25
    )
    width = size * rng.uniform(0.010, 0.015)
    yarn, shadow = _stroke(points, size, width), _stroke(points + size * 0.010, size, width)
    changed = mix(scene.picture, scene.picture * 0.5, shadow * 0.8)
    return mix(changed, (0.80, 0.74, 0.58), yarn), np.maximum(yarn, shadow)


def colour(rng: np.random.Generator, scene: Scene) -> tuple[Floats, Floats]:
    """A patch whose hue has shifted at the same lightness."""
    amount = _blob(rng, scene, rng.uniform(0.09, 0.14), ragged=0.15) * scene.body
    grey = scene.picture.mean(axis=-1, keepdims=True)
    hues = floats([[1.30, 0.90, 0.68], [0.76, 1.14, 0.96], [1.02, 0.82, 1.22]])
    shifted = [(0.5 * scene.picture + 0.5 * grey) * hue + 0.05 * hue for hue in hues]
    changes = [float((np.abs(other - scene.picture).mean(axis=-1) * amount).sum()) for other in shifted]
    choice = int(np.argsort(changes)[rng.integers(1, 3)])  # not the one that shows least here: green on green
    return mix(scene.picture, floats(shifted[choice]), amount), amount


DEFECTS: dict[str, Defect] = {
    "scratch": scratch,
    "stain": stain,
    "missing": missing,
    "crack": crack,
    "thread": thread,
    "colour": colour,
}


def _point(rng: np.random.Generator, where: Bools) -> Floats:
    """One (x, y) of the pixels where a defect may lie, away from the picture's border where that is possible."""
    margin = len(where) // 10
    inner = np.zeros_like(where)
    inner[margin:-margin, margin:-margin] = where[margin:-margin, margin:-margin]
    rows, columns = np.nonzero(inner)
    index = int(rng.integers(len(rows)))
    return floats([columns[index], rows[index]])


def _walk(rng: np.random.Generator, start: Floats, direction: float, length: float, bend: float, curl: float = 0.0) -> Floats:
    """A line of 13 points (x, y) whose direction wanders by ``bend`` radians a step, and turns by ``curl``."""
    turns = direction + bend * rng.standard_normal(12) + curl * rng.choice([-1, 1]) * np.arange(12)
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / 12)
    return floats(start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]))


def _stroke(points: Floats, size: int, width: float) -> Floats:
    """An antialiased line through points, (S, S) in [0, 1]."""
    canvas = Image.new("L", (size * 4, size * 4))
    ImageDraw.Draw(canvas).line(
        [(float(x) * 4, float(y) * 4) for x, y in points], fill=255, width=max(4, round(width * 4)), joint="curve"
    )
    return floats(np.asarray(canvas.reduce(4), dtype=np.float32) / 255)


def _blob(rng: np.random.Generator, scene: Scene, radius: float, ragged: float) -> Floats:
    """A spot around a point of the body, (S, S) in [0, 1]; its radius is a share of the picture's side."""
    size = len(scene.picture)
    x, y = _point(rng, scene.body)
    ramp = np.arange(size, dtype=np.float32)
    stretch, turn = rng.uniform(0.75, 1.3), rng.uniform(0, np.pi)
    dx, dy = ramp[None, :] - x, ramp[:, None] - y
    across, along = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    distance = np.hypot(across * stretch, along / stretch) / (radius * size)
    return edge(floats((distance - 1 + ragged * 0.5 * smooth_noise(rng, size, 24)) * radius * size), 3.0)
